"""Terminal arguments from the fields of a config, whose metadata hold bounds, units and help once for every door."""

import argparse
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, fields
from typing import Any, Final, TypeVar

from ..binding import BindingConfig
from ..errors import UserError
from ..presets import BINDING_PRESETS, System, read_preset, read_presets
from ..speed import Matcher, SpeedConfig, SpeedHandle, apply_speed
from .console import Parser

_Config = TypeVar("_Config", SpeedConfig, BindingConfig)
_SWITCH: Final = ("off", "on")


def add_settings(parser: Parser, names: Iterable[str]) -> None:
    """Add an argument for each named field of `SpeedConfig`. What is not given stays None and keeps its default."""
    _add_arguments(parser, "token merging", [_field(name) for name in names])


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
    return _new(SpeedConfig, values)


def new_binding_config(arguments: argparse.Namespace) -> BindingConfig:
    """Return the config that the arguments of `add_binding_settings` ask for.

    Raises `UserError` in the config's own words.
    """
    return bound_config({name: getattr(arguments, name) for name in binding_setting_names()}, arguments.preset)


def bound_config(values: Mapping[str, Any], preset: str | None = None) -> BindingConfig:
    """Return the binding config with the given fields; None stands for what the preset says, or for the default.

    Raises `UserError` in the config's or the preset's own words.
    """
    given = {name: value for name, value in values.items() if value is not None}
    if preset is None:
        return _new(BindingConfig, given)
    try:
        return _new(BindingConfig, {**read_preset("binding", preset).settings, **given})
    except ValueError as error:
        raise UserError(str(error)) from error


def merge(model: object, config: SpeedConfig, *, matcher: Matcher | None = None) -> SpeedHandle:
    """Return `apply_speed`'s handle; raise `UserError` for a level that the model lacks."""
    try:
        return apply_speed(model, config, matcher=matcher)
    except ValueError as error:
        raise UserError(str(error)) from error


def parse_setting(name: str, text: str) -> Any:
    """Return the value of a field as a user writes it: 0.5, 1,2 or 1+2, attention,mlp, 2x2.

    Raises `ValueError` for text that is no such value; whether the value is allowed is for the config to say.
    """
    return _parse(_field(name), text)


def parse_binding_setting(name: str, text: str) -> Any:
    """Return the value of a field of `BindingConfig` as a user writes it. Raises `ValueError` as `parse_setting`."""
    return _parse(next(setting for setting in fields(BindingConfig) if setting.name == name), text)


def setting_names() -> tuple[str, ...]:
    """Return the names of every field of `SpeedConfig`."""
    return tuple(setting.name for setting in fields(SpeedConfig))


def binding_setting_names() -> tuple[str, ...]:
    """Return the names of every field of `BindingConfig`."""
    return tuple(setting.name for setting in fields(BindingConfig))


def _new(config: type[_Config], values: Mapping[str, Any]) -> _Config:
    try:
        return config(**{name: value for name, value in values.items() if value is not None})
    except ValueError as error:
        raise UserError(str(error)) from error


def _add_arguments(parser: Parser, title: str, settings: Iterable["Field[Any]"]) -> None:
    group = parser.add_argument_group(title)
    for setting in settings:
        group.add_argument(
            f"--{setting.name.replace('_', '-')}",
            type=_argument_type(setting),
            metavar=_placeholder(setting),
            help=_help(setting),
        )


def _parse(setting: "Field[Any]", text: str) -> Any:
    default = setting.default
    if isinstance(default, bool):
        return bool(_SWITCH.index(text))  # raises ValueError
    if not isinstance(default, tuple):
        return _kind(setting)(text)
    kind = type(default[0])
    return tuple(kind(item) for item in re.split(r"[,+x]" if kind is int else r"[,+]", text))


def _field(name: str) -> "Field[Any]":
    return next(setting for setting in fields(SpeedConfig) if setting.name == name)


def _kind(setting: "Field[Any]") -> type:
    """Return the type of a setting's value; one that need not be given has None as its default."""
    return type(setting.metadata["min"] if setting.default is None else setting.default)


def _argument_type(setting: "Field[Any]") -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return _parse(setting, text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must look like {_written(setting.default)}, got {text!r}") from None

    return parse


def _placeholder(setting: "Field[Any]") -> str:
    if isinstance(setting.default, bool):
        return "|".join(_SWITCH)
    if not isinstance(setting.default, tuple):
        return setting.name.split("_")[-1].upper()
    return "HxW" if setting.name == "stride" else f"{setting.name[:-1].upper()},..."


def _help(setting: "Field[Any]") -> str:
    data = setting.metadata
    if "choices" in data:
        bounds = f"Choose from {', '.join(map(_written, data['choices']))}."
    else:
        bounds = f"From {_written(data['min'])} to {_written(data['max'])} ({data['unit']})."
    return f"{data['help']} {bounds} Default {_written(setting.default)}.".replace("%", "%%")


def _written(value: Any) -> str:
    """Return a value as a user writes it."""
    if isinstance(value, bool):
        return _SWITCH[value]
    if isinstance(value, tuple):
        return ("x" if len(value) > 1 else ",").join(str(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
