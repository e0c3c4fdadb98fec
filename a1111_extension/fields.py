"""What the accordion asks for: one row for each widget, in the order of the API, from which all else is built.

The order, the labels and the infotext keys are public for ever: rows are appended, never moved or renamed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from tome_core.binding import BindingConfig
from tome_core.presets import preset_words
from tome_core.settings import Choices, Kind, Number, Switch, Whole, kinds
from tome_core.speed import SpeedConfig

Section = Literal["main", "speed", "binding"]

CUSTOM: Final = "custom"
"""The word that stands for the knobs of a system instead of a preset."""

SAME: Final = "same"
"""The word by which the hires pass takes the preset of the first pass."""


@dataclass(frozen=True)
class PresetWord(Kind):
    """A preset of a system, or one of some other words. Presets come and go while the host runs."""

    system: Literal["speed", "binding"]
    others: tuple[str, ...]

    @property
    def choices(self) -> tuple[str, ...]:
        """The words to choose from, read anew."""
        first = [word for word in self.others if word != CUSTOM]
        return (*first, *preset_words(self.system), *(word for word in self.others if word == CUSTOM))

    @property
    def rule(self) -> str:
        return f"one of {self.choices}"

    @property
    def bounds(self) -> str:
        return f"Choose from {', '.join(self.choices)}."

    def accepts(self, value: Any) -> bool:
        return value in self.choices

    def parse(self, text: str) -> str:
        return text


@dataclass(frozen=True)
class Text(Kind):
    """Any text."""

    @property
    def rule(self) -> str:
        return "text"

    @property
    def bounds(self) -> str:
        return ""

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str)

    def parse(self, text: str) -> str:
        return text


@dataclass(frozen=True)
class Field:
    """One widget.

    Attributes:
        name: of its value.
        label: of the widget.
        key: in the infotext; empty for a switch that is on where other keys are there.
        default: the value of an untouched widget.
        kind: how its value is checked, parsed, written and explained.
        section: "main", or the system whose config has a field of this name, which counts where that is `CUSTOM`.
        setting: the name of that field.
    """

    name: str
    label: str
    key: str
    default: Any
    kind: Kind
    section: Section = "main"
    setting: str = ""

    @property
    def system(self) -> str:
        """Which system it is about; the switch of all counts as speed's."""
        return "binding" if self.name.startswith(("binding", "groups", "maps")) else "speed"


_STRENGTH: Final = "How much of the preset to do: 1 is all of it, 0 leaves the model as it is."

MAIN: Final = (
    Field("enabled", "ToMe", "", False, Switch("Off: everything is as without this extension.")),
    Field(
        "speed_preset",
        "Speed preset",
        "ToMe preset",
        "balanced",
        PresetWord("How much faster, at what cost. off: only binding, or only the hires pass.", "speed", (CUSTOM,)),
    ),
    Field("speed_strength", "Speed strength", "ToMe strength", 1.0, Number(_STRENGTH, "fraction", 0.0, 1.0, 0.05)),
    Field(
        "hires_preset",
        "Speed preset of the hires pass",
        "ToMe hires preset",
        SAME,
        PresetWord("Large pictures gain most: speed up this pass alone, or more.", "speed", (SAME, CUSTOM)),
    ),
    Field(
        "binding",
        "Bind each thing to its words",
        "",
        False,
        Switch("A red book and a yellow vase: merges each thing and its words into one token of the prompt."),
    ),
    Field(
        "binding_preset",
        "Binding preset",
        "ToMe binding",
        "paper",
        PresetWord("How a thing and its words become one token.", "binding", (CUSTOM,)),
    ),
    Field(
        "binding_strength", "Binding strength", "ToMe binding strength", 1.0, Number(_STRENGTH, "fraction", 0, 1, 0.05)
    ),
    Field(
        "groups",
        "Groups, if not those found in the prompt",
        "ToMe groups",
        "",
        Text("In the prompt's own words: cat: red, wearing a hat; dog: black."),
    ),
    Field(
        "maps",
        "Show where each thing drew attention",
        "ToMe maps",
        False,
        Switch("Adds a sheet to the gallery for each picture. Costs some time."),
    ),
)


def _knobs(section: Section, config: type, key: str, without: tuple[str, ...] = ()) -> tuple[Field, ...]:
    """Return a row for each field of a config; its label names the system, since a label is one key in the host."""
    rows, defaults = [], config()
    for name, kind in kinds(config).items():
        if name not in without:
            words, default = name.replace("_", " "), getattr(defaults, name)
            label = f"{section.capitalize()} {words}"
            rows.append(Field(f"{section}.{name}", label, f"{key} {words}", default, kind, section, name))
    return tuple(rows)


SPEED_KNOBS: Final = _knobs("speed", SpeedConfig, "ToMe")
BINDING_KNOBS: Final = _knobs("binding", BindingConfig, "ToMe binding", without=("strength",))
BY_NAME: Final[Mapping[str, Field]] = {field.name: field for field in (*MAIN, *SPEED_KNOBS, *BINDING_KNOBS)}

_API: Final = """
    enabled speed_preset speed_strength hires_preset binding binding_preset binding_strength groups maps
    speed.ratio speed.levels speed.parts speed.stride speed.matching speed.metric speed.seed speed.start_percent
    speed.end_percent speed.cross_attention_ratio speed.mlp_ratio speed.kv_ratio speed.kv_downsample speed.proportional
    speed.refresh speed.min_tokens binding.noun_weight binding.modifier_weight binding.norm binding.removed binding.ends
""".split()
FIELDS: Final = tuple(BY_NAME[name] for name in _API)
"""Every widget, in the order of the API's positional arguments. A new one is the last of `_API`."""


def read_value(field: Field, given: Any) -> Any:
    """Return the value of a widget, of the API or of an XYZ axis, as the config stores it.

    Text is parsed by the field's kind; None and blank text are the field's default.

    Raises:
        ValueError: it breaks the rule of its field.
    """
    kind, value = field.kind, given
    if given is None or (isinstance(given, str) and not given.strip()):
        value = field.default
    elif isinstance(given, str):
        try:
            value = kind.parse(_as_written(kind, given.strip()))
        except ValueError:
            raise ValueError(f"{field.label} must be {kind.rule}, got {given!r}") from None
    if isinstance(kind, Whole) and isinstance(value, float) and value.is_integer():
        value = int(value)  # as gradio's numbers come
    value = kind.normal(value)
    if not kind.accepts(value) and not isinstance(kind, PresetWord):  # whose words are looked up when they are used
        raise ValueError(f"{field.label} must be {kind.rule}, got {given!r}")
    return value


def shown(field: Field, value: Any) -> Any:
    """Return a value as its widget holds it: a number or switch as it is, all else as text, None as blank."""
    if value is None:
        return ""
    match field.kind:
        case Switch() | Number(optional=False) | Whole(optional=False):
            return value
        case Choices() as kind:
            return kind.format(value).replace(",", " + ")
        case kind:
            return kind.format(value)


def read_values(given: "tuple[Any, ...]") -> dict[str, Any]:
    """Return the values of all widgets by name, from the host's positional arguments; missing ones are defaults.

    Surplus ones are left out, as the host does. Raises ValueError where a value breaks its rule.
    """
    values = {field.name: field.default for field in FIELDS}
    values |= {field.name: read_value(field, value) for field, value in zip(FIELDS, given, strict=False)}
    return values


def _as_written(kind: Kind, text: str) -> str:
    """Return a text as its kind parses it: hosts write a switch as True or False."""
    return {"true": "on", "false": "off"}.get(text.lower(), text.lower()) if isinstance(kind, Switch) else text
