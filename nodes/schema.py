"""From the field kinds of a config to ComfyUI inputs, and from what the inputs gave back to a config.

Bounds, defaults and help sentences come from the kinds; only what ComfyUI has no widget for is decided here:

| kind                    | input                                                         |
|-------------------------|---------------------------------------------------------------|
| a number that may be None | a number that may be -1, which stands for None              |
| Choices                 | a list of every choice of some that the config accepts        |
| Cell                    | two inputs, named ..._height and ..._width                    |
| Wholes                  | a text such as "1, 2"                                         |
"""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import Field, fields
from typing import Any, Final, TypeVar

from comfy_api.latest import io

from ..tome_core.settings import Cell, Choice, Choices, Kind, Number, Switch, Whole, Wholes, accepted_choices, kind_of

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
        if isinstance(kind_of(field), Cell):
            given[field.name] = tuple(_given(values.get(name), value) for name, value in _sides(field))
        elif values.get(field.name) is not None:
            given[field.name] = _value(field.name, kind_of(field), values[field.name])
    try:
        return config_class(**given)
    except ValueError as mistake:
        raise ValueError(_as_shown(str(mistake))) from mistake


def _inputs(config_class: type, field: Field[Any]) -> Iterator[Any]:
    """Yield the one input of a field, or the two of a cell."""
    default: Any = field.default
    shown: dict[str, Any] = {"optional": True, "tooltip": tooltip(field)}
    match kind_of(field):
        case Switch():
            yield io.Boolean.Input(field.name, default=default, **shown)
        case Choices():
            options = [JOIN.join(some) for some in accepted_choices(config_class, field.name)]
            yield io.Combo.Input(field.name, options=options, default=JOIN.join(default), **shown)
        case Choice(choices=choices):
            yield io.Combo.Input(field.name, options=list(choices), default=default, **shown)
        case Cell() as kind:
            for name, side in _sides(field):
                yield _whole(name, kind, side, kind.least, shown)
        case Wholes() as kind:
            yield io.String.Input(field.name, default=kind.format(default), **shown)
        case Number() as kind:
            yield _number(field.name, kind, default, shown)
        case Whole() as kind:
            least = UNSET if kind.optional else kind.least
            yield _whole(field.name, kind, UNSET if default is None else default, least, shown)


def _number(name: str, kind: Number, default: float | None, shown: dict[str, Any]) -> Any:
    least = float(UNSET) if kind.optional else kind.least
    display = io.NumberDisplay.number if kind.optional else io.NumberDisplay.slider
    bounds = {"min": least, "max": kind.most, "step": kind.step, "round": 0.001, "display_mode": display}
    return io.Float.Input(name, default=float(UNSET) if default is None else default, **bounds, **shown)


def _whole(name: str, kind: Whole | Cell, default: int, least: int, shown: dict[str, Any]) -> Any:
    bounds = {"min": least, "max": min(kind.most, MAX_WHOLE), "step": kind.step}
    # a seed of ours must not be drawn anew after each run, which ComfyUI does to every input of that name otherwise
    return io.Int.Input(name, default=default, control_after_generate=False, **bounds, **shown)


def tooltip(field: Field[Any]) -> str:
    """Return the help sentence of a field, with the number that stands for None and a unit not in its name."""
    kind = kind_of(field)
    sentence, unit = _as_shown(kind.help), getattr(kind, "unit", "")
    return sentence if field.name.startswith(unit) else f"{sentence} [{unit}]"


def _as_shown(sentence: str) -> str:
    """Return a sentence about a config with the number that stands for None on the inputs."""
    return sentence.replace("None", str(UNSET))


def _value(name: str, kind: Kind, given: Any) -> Any:
    match kind:
        case Wholes():
            try:
                return kind.parse(given)
            except ValueError:
                raise ValueError(f"{name} must be whole numbers with commas between them, got {given!r}") from None
        case Choices():
            return kind.parse(given)
        case Number(optional=True) | Whole(optional=True):
            return None if given < 0 else given
    return given


def _sides(field: Field[Any]) -> Iterator[tuple[str, int]]:
    """Yield the name and the default of both inputs of a cell."""
    default: Any = field.default
    for side, value in zip(SIDES, default, strict=True):
        yield f"{field.name}_{side}", value


def _given(value: int | None, default: int) -> int:
    return default if value is None else value
