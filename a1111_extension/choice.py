"""What the user chose for one job: values of widgets, and what an XYZ axis puts in their place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tome_core.binding import BindingConfig
from tome_core.presets import binding_preset, scaled_speed, speed_preset
from tome_core.speed import SpeedConfig

from .fields import BINDING_KNOBS, BY_NAME, CUSTOM, FIELDS, SAME, SPEED_KNOBS, Field, read_value, read_values

Pass = Literal["first", "hires"]
Choose = Callable[[str], SpeedConfig]  # from the family of a model to what to merge


@dataclass(frozen=True)
class Choice:
    """The values of all widgets by name, of a job that is on.

    Attributes:
        values: as the user set them.
        knobs: settings that stand above what a preset says, by the names of their widgets.
    """

    values: Mapping[str, Any]
    knobs: Mapping[str, Any] = field(default_factory=dict)

    def preset(self, in_pass: Pass = "first") -> str:
        """Return the word of speed for a pass."""
        own = self.values["hires_preset"] if in_pass == "hires" else SAME
        return self.values["speed_preset"] if own == SAME else own

    def speed(self, family: str | None = None, in_pass: Pass = "first") -> SpeedConfig:
        """Return what to merge in a pass, on a family of models. Raises ValueError for a word that is no preset.

        The strength scales what the knobs say as it does a preset.
        """
        word, strength = self.preset(in_pass), self.values["speed_strength"]
        if word == CUSTOM:
            return scaled_speed(SpeedConfig(**self._settings(SPEED_KNOBS, self.values)), strength)
        return replace(speed_preset(word, family, strength), **self._settings(SPEED_KNOBS, self.knobs))

    def binding(self) -> BindingConfig | None:
        """Return how to bind; None where binding is off. Raises ValueError for a word that is no preset."""
        if not self.values["binding"]:
            return None
        word, strength = self.values["binding_preset"], self.values["binding_strength"]
        if word == CUSTOM:
            return BindingConfig(strength=strength, **self._settings(BINDING_KNOBS, self.values))
        return replace(binding_preset(word, strength), **self._settings(BINDING_KNOBS, self.knobs))

    def check(self) -> None:
        """Raise ValueError for what no model could make good."""
        for in_pass in ("first", "hires"):
            self.speed(None, in_pass)
        self.binding()

    @staticmethod
    def _settings(fields: tuple[Field, ...], values: Mapping[str, Any]) -> dict[str, Any]:
        return {field.setting: values[field.name] for field in fields if field.name in values}


def read_choice(given: tuple[Any, ...], axes: Mapping[str, Any]) -> Choice | None:
    """Return what a job is to do; None where it is off.

    Args:
        given: the host's positional arguments.
        axes: values of XYZ axes by the name of a widget. An axis turns on what it is about, and nothing else where the
            job is off. A knob's axis stands above the preset, in the hires pass as well.

    Raises:
        ValueError: a value breaks its rule, or a word is no preset.
    """
    values = read_values(given)
    set_by_axis = {name: read_value(BY_NAME[name], value) for name, value in axes.items()}
    _turn_on(values, [name for name in set_by_axis if name != "enabled"])
    knobs = {name: value for name, value in set_by_axis.items() if BY_NAME[name].section != "main"}
    if any(BY_NAME[name].system == "speed" for name in knobs):
        values["hires_preset"] = SAME
    values |= set_by_axis
    if not values["enabled"]:
        return None
    choice = Choice(values, knobs)
    choice.check()
    return choice


def _turn_on(values: dict[str, Any], axes: list[str]) -> None:
    """Turn on, in values, what axes are about."""
    systems = {BY_NAME[name].system for name in axes}
    if axes and not values["enabled"]:
        values |= {"enabled": True, "binding": False}
        if "speed" not in systems:
            values["speed_preset"], values["hires_preset"] = "off", SAME
    if "binding" in systems:
        values["binding"] = True


def as_custom(choice: Choice, family: str | None = None) -> dict[str, Any]:
    """Return values in which the first pass and binding are set by knobs alone, and which do the same."""
    values, speed, binding = dict(choice.values), choice.speed(family), choice.binding()
    values |= {field.name: getattr(speed, field.setting) for field in SPEED_KNOBS}
    values |= {"speed_preset": CUSTOM, "speed_strength": 1.0}
    if binding is not None:
        values |= {field.name: getattr(binding, field.setting) for field in BINDING_KNOBS}
        values |= {"binding_preset": CUSTOM, "binding_strength": binding.strength}
    return values


def default_values() -> dict[str, Any]:
    """Return the values of untouched widgets."""
    return {field.name: field.default for field in FIELDS}
