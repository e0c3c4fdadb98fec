"""From the field metadata of a config to ComfyUI inputs, and from what the inputs gave back to a config.

Bounds, defaults and help sentences come from the metadata; only what ComfyUI has no widget for is decided here:

| field                      | input                                                         |
|----------------------------|---------------------------------------------------------------|
| may be None                | a number that may be -1, which stands for None                |
| some of several choices    | a list of every choice of some that the config accepts        |
| two whole numbers          | two inputs, named ..._height and ..._width                    |
| any number of whole ones   | a text such as "1, 2"                                         |
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import Field, fields
from itertools import combinations
from typing import Any, Final, TypeVar

from comfy_api.latest import io

Config = TypeVar("Config")

CATEGORY: Final = "ToMe"
UNSET: Final = -1  # what an input shows where the field is None
SIDES: Final = ("height", "width")
JOIN: Final = " + "
MAX_WHOLE: Final = 2**53 - 1  # a browser's numbers are exact up to here


def schema(*, search_aliases: list[str], **described: Any) -> io.Schema:
    """Return a node's schema; the words it is also found by are left out where the host does not know them yet."""
    if "search_aliases" in inspect.signature(io.Schema).parameters:
        described["search_aliases"] = search_aliases
    return io.Schema(**described)


def config_inputs(config_class: type) -> list[Any]:
    """Return the inputs of all fields, in their order. All are optional, so that old prompts keep running."""
    return [made for field in fields(config_class) for made in _inputs(config_class, field)]


def config_from(config_class: type[Config], values: Mapping[str, Any]) -> Config:
    """Return the config that the inputs describe. A value that is missing or None leaves its field's default.

    Raises:
        ValueError: a value breaks its field's rule.
    """
    given: dict[str, Any] = {}
    for field in fields(config_class):  # type: ignore[arg-type]
        if _is_pair(field):
            given[field.name] = tuple(_side(values.get(name), value) for name, value in _sides(field))
        elif values.get(field.name) is not None:
            given[field.name] = _value(field, values[field.name])
    try:
        return config_class(**given)
    except ValueError as mistake:
        raise ValueError(_as_shown(str(mistake))) from mistake


def _inputs(config_class: type, field: Field[Any]) -> Iterator[Any]:
    """Yield the one input of a field, or the two of a pair."""
    known = field.metadata
    default: Any = field.default
    shown: dict[str, Any] = {"optional": True, "tooltip": tooltip(field)}
    if "choices" in known:
        yield _choice(config_class, field, shown)
    elif _is_pair(field):
        for name, value in _sides(field):
            yield _whole(name, value, known, shown)
    elif isinstance(default, tuple):
        yield io.String.Input(field.name, default=", ".join(map(str, default)), **shown)
    elif isinstance(known["max"], float):
        least = known["min"] if default is not None else float(UNSET)
        value = float(UNSET) if default is None else default
        slider = io.NumberDisplay.slider if default is not None else io.NumberDisplay.number
        bounds = {"min": least, "max": known["max"], "step": known["step"], "round": 0.001, "display_mode": slider}
        yield io.Float.Input(field.name, default=value, **bounds, **shown)
    else:
        yield _whole(field.name, default, known, shown)


def _choice(config_class: type, field: Field[Any], shown: dict[str, Any]) -> Any:
    choices = field.metadata["choices"]
    if isinstance(field.default, bool):
        return io.Boolean.Input(field.name, default=field.default, **shown)
    if isinstance(field.default, tuple):
        options = [JOIN.join(some) for some in _accepted(config_class, field.name, choices)]
        return io.Combo.Input(field.name, options=options, default=JOIN.join(field.default), **shown)
    return io.Combo.Input(field.name, options=list(choices), default=field.default, **shown)


def _accepted(config_class: type, name: str, choices: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield every choice of some of the choices that the config accepts, smallest first."""
    for size in range(1, len(choices) + 1):
        for some in combinations(choices, size):
            try:
                config_class(**{name: some})
            except ValueError:
                continue
            yield some


def _whole(name: str, default: int | None, known: Mapping[str, Any], shown: dict[str, Any]) -> Any:
    least = UNSET if default is None else known["min"]
    value = UNSET if default is None else default
    most = min(known["max"], MAX_WHOLE)
    # a seed of ours must not be drawn anew after each run, which ComfyUI does to every input of that name otherwise
    return io.Int.Input(
        name, default=value, min=least, max=most, step=known["step"], control_after_generate=False, **shown
    )


def tooltip(field: Field[Any]) -> str:
    """Return the help sentence of a field, with the number that stands for None and a unit not in its name."""
    sentence, unit = _as_shown(field.metadata["help"]), field.metadata.get("unit", "")
    return sentence if field.name.startswith(unit) else f"{sentence} [{unit}]"


def _as_shown(sentence: str) -> str:
    """Return a sentence about a config with the number that stands for None on the inputs."""
    return sentence.replace("None", str(UNSET))


def _value(field: Field[Any], value: Any) -> Any:
    if field.default is None:
        return None if value < 0 else value
    if not isinstance(field.default, tuple):
        return value
    if "choices" in field.metadata:
        return tuple(value.split(JOIN))
    try:
        return tuple(int(word) for word in re.split(r"[,\s]+", value.strip()))
    except ValueError:
        raise ValueError(f"{field.name} must be whole numbers with commas between them, got {value!r}") from None


def _sides(field: Field[Any]) -> Iterator[tuple[str, int]]:
    """Yield the name and the default of both inputs of a pair."""
    default: Any = field.default
    for side, value in zip(SIDES, default, strict=True):
        yield f"{field.name}_{side}", value


def _side(given: int | None, default: int) -> int:
    return default if given is None else given


def _is_pair(field: Field[Any]) -> bool:
    return isinstance(field.default, tuple) and len(field.default) == 2 and "choices" not in field.metadata
