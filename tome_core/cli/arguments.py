"""The arguments that several commands share, and the types of their values."""

import argparse
import math
import re
from collections.abc import Callable

from ..checkpoints.family import PREDICTION_TYPES
from ..demo import DEMO_GUIDANCE
from ..speed.config import MAX_SEED
from .console import Parser
from .models import DEMO, DTYPES

LEAST_SIDE, MOST_SIDE = 64, 8192
_SIZE_RULE = f"each a multiple of 8 from {LEAST_SIDE} to {MOST_SIDE}"


def add_request(parser: Parser, *, negative: str = "what to avoid in the picture") -> None:
    """Add the prompt, the model and what `sampling.new_request` reads; `negative` is the help of --negative-prompt."""
    parser.add_argument("prompt", metavar="PROMPT", help="what to draw")
    parser.add_argument("--model", default=DEMO, metavar="PATH", help="checkpoint or folder; default: the demo model")
    parser.add_argument(
        "--prediction-type", choices=PREDICTION_TYPES, help="what the checkpoint predicts; default what its file says"
    )
    parser.add_argument("--negative-prompt", default="", metavar="TEXT", help=negative)
    parser.add_argument(
        "--guidance",
        type=number(0, 100),
        metavar="SCALE",
        help=f"how closely to follow the prompt; default {DEMO_GUIDANCE:g} for the demo model, else diffusers' own",
    )
    add_sampling(parser)


def add_sampling(parser: Parser) -> None:
    """Add --steps, --seed and --size."""
    group = parser.add_argument_group("picture")
    group.add_argument(
        "--steps", type=whole(1, 1000), default=20, metavar="N", help="sampling steps, default %(default)s"
    )
    group.add_argument(
        "--seed", type=whole(0, MAX_SEED), default=0, metavar="N", help="picks the starting noise, default %(default)s"
    )
    group.add_argument(
        "--size",
        type=size,
        metavar="PX",
        help=f"side in pixels or WIDTHxHEIGHT, {_SIZE_RULE}; default the size that the model was made for",
    )


def add_device(parser: Parser, *, dtype: bool = True) -> None:
    """Add --device, and --dtype if wanted."""
    group = parser.add_argument_group("machine")
    group.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps; default: a GPU if there is one")
    if dtype:
        group.add_argument(
            "--dtype", choices=tuple(DTYPES), help="of the model; default float16 on a GPU, float32 elsewhere"
        )


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return an argument type for whole numbers from `least` to `most`."""

    def parse(text: str) -> int:
        if re.fullmatch(r"[+-]?\d+", text) is None or not least <= int(text) <= most:
            bounds = f"of at least {least}" if most > 10**6 else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"must be a whole number {bounds}, got {text!r}")
        return int(text)

    return parse


def number(least: float, most: float) -> Callable[[str], float]:
    """Return an argument type for numbers from `least` to `most`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:  # NaN compares false
            raise argparse.ArgumentTypeError(f"must be a number from {least:g} to {most:g}, got {text!r}")
        return value

    return parse


def numbers(text: str) -> tuple[float, ...]:
    """Return the numbers of a list such as 0.5,0.75."""
    try:
        return tuple(float(item) for item in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be numbers such as 0.5,0.75, got {text!r}") from None


def size(text: str) -> tuple[int, int]:
    """Return (width, height) in pixels of a size such as 512 or 768x512."""
    sides = [int(side) for side in text.split("x")] if re.fullmatch(r"\d{1,5}(x\d{1,5})?", text) else []
    if not sides or any(side % 8 or not LEAST_SIDE <= side <= MOST_SIDE for side in sides):
        raise argparse.ArgumentTypeError(f"must be pixels such as 512 or 768x512, {_SIZE_RULE}, got {text!r}")
    return sides[0], sides[-1]
