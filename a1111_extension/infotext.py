"""What a picture says of its making, in the host's style ("ToMe preset: fast"), and how it is read back.

Only what has an effect is written, and only when ToMe is on; what is not there is read as its default, so that pasting
restores every widget. A host takes "2x2" for a size and quotes commas, so a "+" stands for both.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from tome_core.settings import Cell, Choices, Number, Whole, Wholes

from .choice import Choice, as_custom
from .fields import BINDING_KNOBS, BY_NAME, CUSTOM, FIELDS, SPEED_KNOBS, Field, read_value, shown

Infotext = Mapping[str, str]

KEYS = frozenset(field.key for field in FIELDS if field.key)  # every key that may be written
SPEED_KEY, BINDING_KEY = BY_NAME["speed_preset"].key, BY_NAME["binding_preset"].key


def write(choice: Choice, *, has_hires: bool, family: str | None = None) -> dict[str, str | float]:
    """Return the values of a job that is on, by infotext key.

    Where an axis set a knob the whole config is written, as custom: the same settings come back without the axis.
    """
    values = as_custom(choice, family) if choice.knobs else choice.values
    is_custom = CUSTOM in (values["speed_preset"], values["hires_preset"] if has_hires else "")
    names = ["speed_preset"]
    names += ["speed_strength"] if values["speed_preset"] != "off" or has_hires else []
    names += ["hires_preset"] if has_hires else []
    names += [field.name for field in SPEED_KNOBS] if is_custom else []
    if values["binding"]:
        names += ["binding_preset", "binding_strength", "groups", "maps"]
        names += [field.name for field in BINDING_KNOBS] if values["binding_preset"] == CUSTOM else []
    always = (SPEED_KEY, BINDING_KEY)
    fields = [BY_NAME[name] for name in names]
    shown = [field for field in fields if field.key in always or values[field.name] != field.default]
    return {field.key: _written(field, values[field.name]) for field in shown}


def only_effects(info: Mapping[str, Any], *, has_merged: bool, has_bound: bool) -> dict[str, Any]:
    """Return what is left to say of what had an effect."""
    of_binding = {field.key for field in FIELDS if field.system == "binding"}
    binding = {key: value for key, value in info.items() if key in of_binding}
    speed = {key: value for key, value in info.items() if key not in binding}
    speed = speed if has_merged else {SPEED_KEY: "off"} if has_bound else {}
    return speed | (binding if has_bound else {})


def is_on(info: Infotext) -> bool:
    """Return whether the picture was made with ToMe."""
    return SPEED_KEY in info


@cache
def reader(field: Field) -> Callable[[Infotext], Any]:
    """Return how the host reads a widget from an infotext. A value that no version wrote is left at its default.

    It is the same function each time: by it the host finds the widget of another tab that it sends a picture to.
    """

    def read(info: Infotext) -> Any:
        if field.name == "enabled":
            return is_on(info)
        if field.name == "binding":
            return BINDING_KEY in info
        try:
            return shown(field, read_value(field, info.get(field.key)))
        except ValueError:
            return shown(field, field.default)

    return read


def _written(field: Field, value: Any) -> str | float:
    match field.kind:
        case Number() | Whole() if value is not None:
            return value
        case Cell() | Choices() | Wholes() as kind:
            return kind.format(value).replace("x", "+").replace(",", "+")
        case kind:
            return kind.format(value)
