"""What a user chooses about binding: names, bounds, units and help sentences live here once."""

from dataclasses import dataclass, fields
from typing import Any

from ..settings import check, require, setting

NORMS = ("none", "noun")
REMOVALS = ("fill", "zero", "keep")
ENDS = ("end", "position", "off")


def _number(default: float, most: float, help: str, unit: str) -> Any:
    return setting(default, help, min=0.0, max=most, step=0.05, unit=unit)


@dataclass(frozen=True)
class BindingConfig:
    """Composite tokens and end-token substitution (Hu et al. 2024, sections 3.2 and 3.3). Neutral at `strength` 0.

    The defaults are the paper's: a plain sum, removed rows, end tokens of the prompt without modifiers. They are
    not yet verified on real weights. The authors' own code differs (weights 1.1 and 1.2, `removed` "zero", `ends`
    "position" or, for colours and textures, "off"). `dataclasses.fields` gives each field's bounds, choices and help
    as `metadata`.

    Raises:
        ValueError: a field breaks its rule, as "<name> must be <rule>, got <value>".
    """

    strength: float = _number(
        1.0, 1.0, "How far to go from the model's own prompt, at 0, to the bound prompt, at 1.", "fraction"
    )
    noun_weight: float = _number(1.0, 2.0, "Weight of a thing's own words in its composite token.", "factor")
    modifier_weight: float = _number(1.0, 2.0, "Weight of its modifiers, such as its colour, in it.", "factor")
    norm: str = setting(
        "none",
        "Length of a composite token. none: as the sum has it, about twice a word's. noun: as the thing's own word.",
        choices=NORMS,
    )
    removed: str = setting(
        "fill",
        "What becomes of the words that went into a composite token. fill: end padding, as if they had not been there. "
        "zero: nothing, which still draws some attention. keep: they stay.",
        choices=REMOVALS,
    )
    ends: str = setting(
        "end",
        "Take the end tokens from the prompt without modifiers. end: beginning with its end. position: same places. "
        "off: keep the prompt's own.",
        choices=ENDS,
    )

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            require(item.name, *check(value, item.default, item.metadata), value)
            if isinstance(item.default, float):
                object.__setattr__(self, item.name, float(value))

    @property
    def is_neutral(self) -> bool:
        """Whether every prompt stays as the model encodes it."""
        return self.strength == 0
