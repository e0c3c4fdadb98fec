"""`tome demo`: the demo model's pictures, untouched and merged, on one sheet, and what merging did to them."""

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from .. import __version__
from ..bench.clock import describe
from ..demo import DEMO_GUIDANCE, DEMO_PROMPTS, untaught_words
from ..errors import UserError
from ..presets import SPEED_PRESETS
from ..speed import SpeedConfig
from .arguments import add_device, add_sampling, numbers
from .comparison import Comparison, compare
from .console import Parser
from .files import check_folder, write_json, write_png
from .models import DEMO, default_size, opened, pictures_at_once, warn_of_words
from .sampling import Request
from .settings import Choice, add_preset, add_settings

DESCRIPTION: Final = """\
Draw a sheet of pictures with the small model of this package. Each row is a prompt: first without merging, then with
each preset. Takes less than a minute on two processor cores, and writes two files into
a folder: grid.png to look at, and report.json with all figures."""
EXAMPLES: Final = """\
examples:
  tome demo
  tome demo --preset fast --strength 0.5
  tome demo --ratios 0.3,0.5,0.7 --levels 1,2 --start-percent 0.2
  tome demo --prompts "a green star" "a red circle and a blue square" --seed 7 --out shapes"""
_SETTINGS: Final = ("levels", "parts", "matching", "metric", "start_percent", "min_tokens")
_RATIOS: Final = (0.5, 0.75)
_FAMILY: Final = "sd1"  # the form of the demo model
_TITLE: Final = "The same prompts and noise, from fewer tokens"


def add_arguments(parser: Parser) -> None:
    """Add what can be chosen; nothing has to be."""
    group = parser.add_argument_group("sheet")
    group.add_argument("--prompts", nargs="+", default=list(DEMO_PROMPTS), metavar="PROMPT", help="one row each")
    group.add_argument(
        "--ratios",
        type=numbers,
        metavar="R,...",
        help="shares of the tokens to merge, one column each beside the untouched one; default the "
        "presets, or 0.5,0.75 where one of the settings of token merging below is named",
    )
    group.add_argument("--out", type=Path, default=Path("tome-demo"), metavar="FOLDER", help="default ./%(default)s")
    add_sampling(parser)
    add_preset(parser, several=True)
    add_settings(parser, _SETTINGS)
    add_device(parser, dtype=False)
    parser.set_defaults(model=DEMO, dtype="float32", prediction_type=None)


def execute(arguments: argparse.Namespace) -> int:
    """Draw the sheet, write it and its report, and print its figures."""
    configs = _configs(arguments)
    check_folder(arguments.out)
    with opened(arguments) as pipeline:
        warn_of_words(arguments.prompts)
        width, height = arguments.size or default_size(pipeline.unet)
        request = Request("", arguments.steps, width, height, DEMO_GUIDANCE)
        rows = [(replace(request, prompt=prompt), arguments.seed) for prompt in arguments.prompts]
        comparison = compare(pipeline, configs, rows, pictures_at_once(DEMO, pipeline.device))
    _write(comparison, request, arguments, describe(pipeline.device))
    notes = dict.fromkeys(f"note: {note}" for column in comparison.columns[1:] for note in column.report.notes)
    print("\n".join([comparison.table(), *notes]))
    print(f"\nOpen {arguments.out / 'grid.png'}")
    return comparison.conclude()


def _configs(arguments: argparse.Namespace) -> list[tuple[str, SpeedConfig]]:
    """Return what each column merges, with its name: one preset each, or one ratio."""
    shared = {name: getattr(arguments, name) for name in _SETTINGS}
    ratios, words, strength = arguments.ratios, arguments.preset, arguments.strength
    if ratios is not None and words is not None:
        raise UserError("ratios must be left out beside preset: both say what a column merges")
    if ratios is None and words is None and all(value is None for value in shared.values()):
        words = SPEED_PRESETS[1:]
    if words is None:
        choices = [Choice({"ratio": ratio, **shared}, None, strength) for ratio in ratios or _RATIOS]
    else:
        choices = [Choice(shared, word, strength) for word in words]
    return [choice.named(_FAMILY) for choice in choices]


def _write(comparison: Comparison, request: Request, arguments: argparse.Namespace, machine: dict[str, Any]) -> None:
    prompts = arguments.prompts[: comparison.rows]
    settings = asdict(request) | {"prompts": prompts, "seed": arguments.seed}
    del settings["prompt"]
    report = {
        "machine": machine,
        "settings": settings,
        "untaught_words": {prompt: untaught_words(prompt) for prompt in prompts},
        **comparison.as_dict(),
    }
    footer = f"tome-suite {__version__} · demo model · {request.summary} · seed {arguments.seed}"
    write_json(arguments.out / "report.json", report)
    write_png(arguments.out / "grid.png", comparison.sheet(_TITLE, prompts, footer), {"tome_version": __version__})
