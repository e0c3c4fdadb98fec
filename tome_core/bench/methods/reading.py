"""The methods that a benchmark compares, from how a user writes them to how they draw.

A list holds names with settings after a colon: ours,ours:levels=1+2,parts=attention+mlp,tomesd,merge:norm=noun
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from ...binding import BindingConfig
from ...errors import UserError, as_user_error
from ...presets import BINDING_PRESETS, SPEED_PRESETS, read_preset
from ...settings import kinds, require
from ...speed import SpeedConfig
from ..drawing.method import UNTOUCHED, Method
from .binding import BINDING_KINDS, ISOLATION, Binding
from .merging import Merging, chosen_config
from .tomesd import TOMESD, Tomesd

OURS: Final = "ours"
TODO: Final = "todo"  # Smith et al. 2024, arXiv 2402.13573, in our own code: fewer keys and values, every query
MERGINGS: Final = (OURS, TODO, TOMESD)
BINDINGS: Final = (*BINDING_KINDS, ISOLATION)
SHARED: Final = ("ratio", "levels", "parts")  # settings that every method takes that has them and names no other
_PRESET: Final[dict[str, Callable[[str], Any]]] = {"preset": str, "strength": float}
_SETTINGS: Final[dict[str, tuple[str, ...]]] = {
    OURS: (*_PRESET, *kinds(SpeedConfig)),
    TODO: ("kv_downsample", "levels"),
    TOMESD: ("ratio", "levels", "parts", "stride"),
}
_LOGGER: Final = logging.getLogger(__name__)


def read_methods(text: str, shared: Mapping[str, Any], known: tuple[str, ...] = (*MERGINGS, *BINDINGS)) -> list[Method]:
    """Return the methods of a list, without the untouched model. Raises `UserError`.

    shared: settings of merging methods that name no other; None is not given.
    """
    methods: list[Method] = []
    for item in _split(text):
        kind = item.partition(":")[0]
        if kind not in (UNTOUCHED, *known):
            raise UserError(f"methods must be among {', '.join((UNTOUCHED, *known))}, got {item!r}")
        if item != UNTOUCHED:
            methods.append(_read_merging(item, kind, shared) if kind in MERGINGS else _read_binding(item, kind))
    return methods


def read_mergings(text: str, shared: Mapping[str, Any]) -> list[Merging]:
    """Return the merging methods of a list, the untouched model first. Raises `UserError`."""
    others: Any = read_methods(text, shared, MERGINGS)
    return [Merging(UNTOUCHED, UNTOUCHED, SpeedConfig(ratio=0.0)), *others]


def _split(text: str) -> list[str]:
    """Return the different items of a list. One with a "=" and no ":" goes on with that before it."""
    items: list[str] = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        if items and "=" in item and ":" not in item:
            items[-1] += f",{item}"
        else:
            items.append(item)
    if not items:
        raise UserError(f"methods must name at least one, got {text!r}")
    return list(dict.fromkeys(items))


def _read_merging(item: str, kind: str, shared: Mapping[str, Any]) -> Merging:
    values = {name: value for name, value in shared.items() if value is not None}
    if kind == TODO:
        for name in sorted(set(values) - set(_SETTINGS[TODO])):
            _LOGGER.warning("--%s has no effect on %s, whose settings are %s", name, TODO, ", ".join(_SETTINGS[TODO]))
            del values[name]
        values |= {"ratio": 0.0, "kv_downsample": 2}
    parsers = _PRESET | {name: field.parse for name, field in kinds(SpeedConfig).items()}
    values |= _parse(item, {name: parsers[name] for name in _SETTINGS[kind]})
    preset, strength = _own_preset(values, SPEED_PRESETS), values.pop("strength", None)
    config = chosen_config(values, preset, strength)
    return (Tomesd if kind == TOMESD else Merging)(item, kind, config, tuple(values.items()), preset, strength)


def _read_binding(item: str, kind: str) -> Binding:
    if kind == ISOLATION:
        if item != kind:
            raise UserError(f"{ISOLATION} has no settings, got {item!r}")
        return Binding(item, None)
    preset = {"preset": str} if kind == "bind" else {}  # the others are presets
    values = _parse(item, preset | {name: field.parse for name, field in kinds(BindingConfig).items()})
    word = _own_preset(values, BINDING_PRESETS)
    with as_user_error():
        chosen = read_preset("binding", word).settings if word else {}
        return Binding(item, BindingConfig(**{**chosen, **BINDING_KINDS[kind], **values}))


def _own_preset(values: dict[str, Any], words: tuple[str, ...]) -> str | None:
    """Take the preset's word out of the settings. A user's own, which no other machine has, raises `UserError`."""
    word = values.pop("preset", None)
    with as_user_error():
        require("preset", word is None or word in words, f"one of {words}", word)
    return word


def _parse(item: str, parsers: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """Return the settings of a method."""
    kind, _, rest = item.partition(":")
    values = {}
    for name, _, value in (setting.partition("=") for setting in rest.split(",") if setting):
        if name not in parsers:
            raise UserError(f"{kind} has no setting {name!r}; it has {', '.join(parsers)}")
        try:
            values[name] = parsers[name](value)
        except ValueError:
            raise UserError(f"{name} cannot be {value!r}, in {item!r}") from None
    return values
