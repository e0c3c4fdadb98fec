"""Terminal arguments from the fields of a config, whose kinds hold bounds, units and help once for every door."""

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, fields
from typing import Any

from ..binding import BindingConfig
from ..errors import as_user_error
from ..presets import BINDING_PRESETS, System, read_preset, read_presets
from ..settings import Cell, Choices, Kind, Switch, Wholes, kind_of, kinds
from ..speed import Matcher, SpeedConfig, SpeedHandle, apply_speed
from .console import Parser


def add_settings(parser: Parser, names: Iterable[str]) -> None:
    """Add an argument for each named field of `SpeedConfig`. What is not given stays None and keeps its default."""
    chosen = set(names)
    _add_arguments(parser, "token merging", [field for field in fields(SpeedConfig) if field.name in chosen])


def add_binding_settings(parser: Parser) -> None:
    """Add --preset, and an argument for each field of `BindingConfig`; what is not given stays None."""
    group = parser.add_argument_group("preset of binding", "Settings for one word. Those named beside it rule over it.")
    group.add_argument(
        "--preset", choices=BINDING_PRESETS, metavar="WORD", help=f"{preset_help('binding')}. Default paper."
    )
    _add_arguments(parser, "binding", fields(BindingConfig))


def preset_help(system: System) -> str:
    """Return what each preset of a system is for."""
    return "; ".join(f"{word}: {preset.help.rstrip('.')}" for word, preset in read_presets(system).items())


def new_config(values: Mapping[str, Any]) -> SpeedConfig:
    """Return the config with the given fields; None stands for the default.

    Raises `UserError` in the config's own words.
    """
    with as_user_error():
        return SpeedConfig(**{name: value for name, value in values.items() if value is not None})


def new_binding_config(arguments: argparse.Namespace) -> BindingConfig:
    """Return the config that the arguments of `add_binding_settings` ask for.

    Raises `UserError` in the config's own words.
    """
    return bound_config({name: getattr(arguments, name) for name in kinds(BindingConfig)}, arguments.preset)


def bound_config(values: Mapping[str, Any], preset: str | None = None) -> BindingConfig:
    """Return the binding config with the given fields; None stands for what the preset says, or for the default.

    Raises `UserError` in the config's or the preset's own words.
    """
    given = {name: value for name, value in values.items() if value is not None}
    with as_user_error():
        base = {} if preset is None else read_preset("binding", preset).settings
        return BindingConfig(**{**base, **given})


def merge(model: object, config: SpeedConfig, *, matcher: Matcher | None = None) -> SpeedHandle:
    """Return `apply_speed`'s handle; raise `UserError` for a level that the model lacks."""
    with as_user_error():
        return apply_speed(model, config, matcher=matcher)


def _add_arguments(parser: Parser, title: str, settings: Iterable["Field[Any]"]) -> None:
    group = parser.add_argument_group(title)
    for setting in settings:
        kind, default = kind_of(setting), setting.default
        group.add_argument(
            f"--{setting.name.replace('_', '-')}",
            type=_argument_type(kind, default),
            metavar=_placeholder(setting.name, kind),
            help=f"{kind.help} {kind.bounds} Default {kind.format(default)}.".replace("%", "%%"),
        )


def _argument_type(kind: Kind, default: Any) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return kind.parse(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must look like {kind.format(default)}, got {text!r}") from None

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
