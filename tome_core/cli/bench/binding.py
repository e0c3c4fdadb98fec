"""`tome bench binding`: what binding does to pictures, against the untouched ones of the same prompts and noise."""

import argparse
from typing import Final

from ...bench.methods.reading import BINDINGS
from ...bench.suites import SUITES
from ..console import Parser
from .quality import add_comparison, compare

DESCRIPTION: Final = f"""\
Draw the same prompts from the same noise, untouched and bound in several ways, and show on the demo model how many
pictures are fully right and how often an attribute went to the wrong thing, with intervals and tests by prompt; and
how far all pictures are from the untouched ones, and what a picture costs in time. With --model it draws with a
checkpoint of yours, with --prompts-file the prompts of a file such as T2I-CompBench's color_val.txt; no judge knows
such pictures: --sheet puts them side by side for your eyes.

Methods ({", ".join(BINDINGS)}), with the settings of tome bind after a colon:
  merge        composite tokens alone      merge+ets  with end tokens of the prompt without attributes (the paper)
  ets          these end tokens alone      published  the weights and zeroed rows of the authors' code
  bind         any, preset=gentle          isolation  each phrase encoded alone, as with BREAK"""
EXAMPLES: Final = f"""\
examples:
  tome bench binding --prompts 20 --seeds 1
  tome bench binding --methods merge,merge:norm=noun,bind:removed=zero,ends=position --json binding.json
  tome bench binding --model sdxl.safetensors --prompts-file color_val.txt --prompts 30 --seeds 1 --sheet sheet.png

suites: {", ".join(SUITES)}"""
_METHODS: Final = "merge,merge+ets,merge:norm=noun,isolation"


def add_arguments(parser: Parser) -> None:
    """Add what can be chosen; nothing has to be."""
    add_comparison(parser, _METHODS, help="see above; those of tome bench quality, too")


def execute(arguments: argparse.Namespace) -> int:
    """Draw, read, compare and print."""
    return compare(arguments)
