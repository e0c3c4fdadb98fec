"""Arguments from the fields of a config, whose kinds hold bounds, units and help once for every door; and presets."""

import argparse
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, fields, replace
from typing import Any

from ..bench.drawing.method import UNTOUCHED
from ..bench.methods.merging import chosen_config
from ..binding import BindingConfig
from ..errors import as_user_error
from ..presets import BINDING_PRESETS, SPEED_PRESETS, SYSTEMS, System, binding_preset, preset_words, read_preset
from ..settings import Cell, Choices, Kind, Switch, Wholes, kind_of, kinds
from ..speed import SpeedConfig
from .arguments import number
from .console import Parser


@dataclass(frozen=True)
class Choice:
    """A preset, how much of it, and the settings that were named, which rule over what it says; None was not given."""

    values: Mapping[str, Any]
    preset: str | None = None
    strength: float | None = None

    def config(self, family: str | None = None) -> SpeedConfig:
        """Return what that comes to on a model of a family; without one, on any. Raises `UserError`."""
        return chosen_config(_given(self.values), self.preset, self.strength, family)

    def named(self, family: str) -> tuple[str, SpeedConfig]:
        """Return the config with what to call it beside a picture: "fast", "fast x 0.8", "ratio 0.5"."""
        config = self.config(family)
        return self._name(config), config

    def _name(self, config: SpeedConfig) -> str:
        if self.preset is not None:
            return self.preset if self.strength in (None, 1.0) else f"{self.preset} x {self.strength:g}"
        if config.is_neutral:
            return UNTOUCHED
        if config.ratio > 0 or not config.has_own_keys:
            return f"ratio {config.ratio:g}"
        return f"keys by {config.kv_downsample}" if config.kv_ratio is None else f"key ratio {config.kv_ratio:g}"


def add_settings(parser: Parser, names: Iterable[str]) -> None:
    """Add an argument for each named field of `SpeedConfig`. What is not given stays None and keeps its default."""
    chosen = set(names)
    _add_arguments(parser, "token merging", [field for field in fields(SpeedConfig) if field.name in chosen])


def add_preset(parser: Parser, *, several: bool = False) -> None:
    """Add --preset and --strength; `several` lets --preset take a list."""
    group = parser.add_argument_group("presets", "Settings for one word. Those that are named beside it rule over it.")
    words = _preset_help("speed")
    if several:
        group.add_argument("--preset", type=_words, metavar="WORD,...", help=f"one column each; {words}")
    else:
        group.add_argument("--preset", type=_word_type("speed"), metavar="WORD", help=words)
    group.add_argument(
        "--strength", type=number(0, 1), metavar="STRENGTH", help="a factor for every ratio of the preset, default 1"
    )


def add_binding_settings(parser: Parser) -> None:
    """Add --preset, and an argument for each field of `BindingConfig`; what is not given stays None."""
    group = parser.add_argument_group(
        "preset of binding",
        "Settings for one word. Those named beside it rule over it; strength is a factor for its own.",
    )
    group.add_argument(
        "--preset", type=_word_type("binding"), metavar="WORD", help=f"{_preset_help('binding')}. Default paper."
    )
    _add_arguments(parser, "binding", fields(BindingConfig))


def add_all_settings(parser: Parser) -> None:
    """Add a preset to begin with, its strength, and an argument for each other field, of both systems.

    The seed is left out, which is a picture's in the terminal. What is not given stays None.
    """
    title = "presets to begin with"
    group = parser.add_argument_group(title, "Settings for one word. Those that are named beside it rule over it.")
    for system in SYSTEMS:
        group.add_argument(f"--{system}", type=_word_type(system), metavar="WORD", help=_preset_help(system))
        scaled = "every ratio" if system == "speed" else "the strength"
        told = f"a factor for {scaled} of that preset, default 1"
        group.add_argument(f"--{system}-strength", type=number(0, 1), metavar="STRENGTH", help=told)
    add_settings(parser, [name for name in kinds(SpeedConfig) if name != "seed"])
    _add_arguments(parser, "binding", [field for field in fields(BindingConfig) if field.name != "strength"])


def new_binding_config(values: Mapping[str, Any], preset: str | None) -> BindingConfig:
    """Return what a preset and fields of `BindingConfig` come to, of which None was not given.

    `strength` is a factor for the preset's own. Raises `UserError` in the config's own words.
    """
    given = _given(values)
    with as_user_error():
        chosen = binding_preset(preset or BINDING_PRESETS[0], given.pop("strength", 1.0))
        return replace(chosen, **given)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _preset_help(system: System) -> str:
    """Return what each of the suite's own presets of a system is for, and the words of the user's."""
    own = SPEED_PRESETS if system == "speed" else BINDING_PRESETS
    lines = [f"{word}: {read_preset(system, word).help.rstrip('.')}" for word in own]
    users = preset_words(system)[len(own) :]
    return "; ".join([*lines, *([f"yours, see tome preset list: {', '.join(users)}"] if users else [])])


def _word_type(system: System) -> Callable[[str], str]:
    """Return an argument type for a preset's word."""

    def parse(text: str) -> str:
        try:
            read_preset(system, text)
        except ValueError as error:
            message = re.sub("^preset (?=must )", "", str(error))  # which the option's name says already
            raise argparse.ArgumentTypeError(message) from None
        return text

    return parse


def _words(text: str) -> tuple[str, ...]:
    return tuple(map(_word_type("speed"), text.split(",")))


def _add_arguments(parser: Parser, title: str, settings: Iterable["Field[Any]"]) -> None:
    group = parser.add_argument_group(title)
    for setting in settings:
        kind, default = kind_of(setting), setting.default
        group.add_argument(
            f"--{setting.name.replace('_', '-')}",
            type=_argument_type(kind),
            metavar=_placeholder(setting.name, kind),
            help=f"{kind.help} {kind.bounds} Default {kind.format(default)}.".replace("%", "%%"),
        )


def _argument_type(kind: Kind) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return kind.parse(text)
        except ValueError:
            rule = kind.rule.removeprefix("None or ")  # which an option that is left out already means
            raise argparse.ArgumentTypeError(f"must be {rule}, got {text!r}") from None

    return parse


def _placeholder(name: str, kind: Kind) -> str:
    match kind:
        case Switch():
            return "off|on"
        case Cell():
            return "HxW"
        case Choices() | Wholes():
            return f"{name[:-1].upper()},..."
    return name.split("_")[-1].upper()
