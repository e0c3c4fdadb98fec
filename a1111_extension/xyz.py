"""Axes of the host's X/Y/Z plot: one for each widget, and what they put on a job."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from modules import scripts

from tome_core.settings import Choice, Number, Switch, Whole

from .fields import FIELDS, Field, PresetWord, read_value
from .script import AXES

PREFIX: Final = "[ToMe] "
_PLOT: Final = ("xyz_grid.py", "scripts.xyz_grid")  # the module's name, of now and of older hosts


def add_axes() -> None:
    """Add the axes to the plot that is loaded, once each. Without a plot there are none."""
    plot = next((data.module for data in scripts.scripts_data if data.script_class.__module__ in _PLOT), None)
    if plot is None:
        return
    known = {option.label for option in plot.axis_options}
    plot.axis_options.extend(axis for axis in map(partial(_axis, plot), FIELDS) if axis.label not in known)


def _axis(plot: Any, field: Field) -> Any:
    return plot.AxisOption(
        PREFIX + (field.label if field.name != "enabled" else "On"),
        _type(field),
        partial(_apply, field),
        confirm=partial(_confirm, field),
        choices=_choices(field),
    )


def _apply(field: Field, p: Any, value: Any, values: Any) -> None:
    """Put the value of an axis on a job. The host copies the job for each cell, and not what is on it."""
    setattr(p, AXES, {**getattr(p, AXES, {}), field.name: value})


def _confirm(field: Field, p: Any, values: list[Any]) -> None:
    """Refuse a value that breaks its rule, before the first picture is made."""
    for value in values:
        checked = read_value(field, value)
        if isinstance(field.kind, PresetWord) and not field.kind.accepts(checked):
            raise RuntimeError(f"{field.label} must be {field.kind.rule}, got {value!r}")


def _type(field: Field) -> type:
    match field.kind:
        case Number(optional=False):
            return float
        case Whole(optional=False):
            return int
    return str


def _choices(field: Field) -> Callable[[], list[str]] | None:
    match field.kind:
        case Switch():
            return lambda: ["True", "False"]
        case PresetWord() as kind:
            return lambda: list(kind.choices)
        case Choice(choices=words) if type(field.kind) is Choice:
            return lambda: list(words)
    return None
