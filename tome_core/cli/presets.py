"""What a user chose of merging (preset, strength, single settings), and the config that it makes on a model."""

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ..errors import UserError, as_user_error
from ..presets import SPEED_PRESETS, speed_preset
from ..speed import SpeedConfig
from .arguments import number
from .console import Parser
from .settings import new_config, preset_help

UNTOUCHED: Final = "untouched"
"""What the model without any choice is called, beside pictures and as a benchmark's method."""


@dataclass(frozen=True)
class Choice:
    """A preset, how much of it, and the settings that were named, which rule over what it says; None was not given."""

    values: Mapping[str, Any]
    preset: str | None = None
    strength: float | None = None

    def config(self, family: str | None = None) -> SpeedConfig:
        """Return what that comes to on a model of a family; without one, on any. Raises `UserError`."""
        given = {name: value for name, value in self.values.items() if value is not None}
        if self.preset is None:
            if self.strength is not None:
                raise UserError(
                    f"strength must go with a preset, {', '.join(SPEED_PRESETS)}, which it scales; or give ratio"
                )
            return new_config(given)
        with as_user_error():
            preset = speed_preset(self.preset, family, 1.0 if self.strength is None else self.strength)
        with as_user_error(f"beside preset {self.preset}, "):  # the other setting may be the preset's
            return replace(preset, **given)

    @property
    def name(self) -> str | None:
        """What to call it beside a picture: "fast", "fast x 0.8"; None without a preset."""
        if self.preset is None or self.strength in (None, 1.0):
            return self.preset
        return f"{self.preset} x {self.strength:g}"


def add_preset(parser: Parser, *, several: bool = False) -> None:
    """Add --preset and --strength; `several` lets --preset take a list."""
    group = parser.add_argument_group("presets", "Settings for one word. Those that are named beside it rule over it.")
    words = preset_help("speed")
    if several:
        group.add_argument("--preset", type=_words, metavar="WORD,...", help=f"one column each; {words}")
    else:
        group.add_argument("--preset", choices=SPEED_PRESETS, metavar="WORD", help=words)
    group.add_argument(
        "--strength", type=number(0, 1), metavar="STRENGTH", help="a factor for every ratio of the preset, default 1"
    )


def chosen(arguments: argparse.Namespace, names: Iterable[str]) -> Choice:
    """Return the choice that the arguments of `add_preset` and `add_settings` make."""
    values = {name: getattr(arguments, name) for name in names}
    return Choice(values, arguments.preset, arguments.strength)


def _words(text: str) -> tuple[str, ...]:
    words = tuple(text.split(","))
    if unknown := [word for word in words if word not in SPEED_PRESETS]:
        raise argparse.ArgumentTypeError(f"must be among {', '.join(SPEED_PRESETS)}, got {unknown[0]!r}")
    return words
