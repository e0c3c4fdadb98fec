"""`tome bench quality`: what merging does to pictures, against the untouched ones of the same prompts and noise."""

import argparse
from typing import Final

from ...evaluation.suites import SUITES
from ..console import Parser
from ..settings import add_settings
from .comparing import add_comparison, compare
from .methods import OURS, SHARED

DESCRIPTION: Final = """\
Draw the same prompts from the same noise with the demo model, untouched and merged, and tell how many pictures are
fully right, what is wrong with the others, and how far all of them are from the untouched ones, with intervals and
tests by prompt. Prompts of several objects come with two controls: each phrase drawn in a region of its own, and the
attributes shuffled. Every picture is kept, so an interrupted run goes on where it was. The first run takes long."""
EXAMPLES: Final = f"""\
examples:
  tome bench quality --prompts 20 --seeds 2
  tome bench quality --methods ours:ratio=0.25,ours,ours:ratio=0.75 --json quality.json --plot quality.png
  tome bench quality --methods ours:preset=gentle,ours:preset=balanced,ours:preset=fast --prompts 20
  tome bench quality --methods ours,tomesd --suite single --split seen --prompts 30 --sheet disagree.png

suites: {", ".join(SUITES)}"""


def add_arguments(parser: Parser) -> None:
    """Add what can be chosen; nothing has to be."""
    add_comparison(parser, OURS, help="as of tome bench speed or tome bench binding")
    add_settings(parser, SHARED)


def execute(arguments: argparse.Namespace) -> int:
    """Draw, read, compare and tell."""
    return compare(arguments)
