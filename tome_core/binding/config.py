"""What a user chooses about binding: names, bounds, units and help sentences live here once."""

from dataclasses import dataclass
from typing import Any

from ..settings import Choice, Number, setting, settle

NORMS = ("none", "noun")
REMOVALS = ("fill", "zero", "keep")
ENDS = ("end", "position", "off")


def _number(default: float, most: float, help: str, unit: str) -> Any:
    return setting(default, Number(help, unit, 0.0, most, 0.05))


@dataclass(frozen=True)
class BindingConfig:
    """Composite tokens and end-token substitution (Hu et al. 2024, sections 3.2 and 3.3). Neutral at `strength` 0.

    The defaults are the paper's: a plain sum, removed rows, end tokens of the prompt without modifiers. They are
    not yet verified on real weights. The authors' own code differs (weights 1.1 and 1.2, `removed` "zero", `ends`
    "position" or, for colours and textures, "off"). `settings.kinds` gives the kind of each field.

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
        Choice(
            "Length of a composite token. none: as the sum has it, about twice a word's. noun: as the thing's own "
            "word.",
            NORMS,
        ),
    )
    removed: str = setting(
        "fill",
        Choice(
            "What becomes of the words that went into a composite token. fill: end padding, as if they had not been "
            "there. zero: nothing, which still draws some attention. keep: they stay.",
            REMOVALS,
        ),
    )
    ends: str = setting(
        "end",
        Choice(
            "Take the end tokens from the prompt without modifiers. end: beginning with its end. position: same "
            "places. off: keep the prompt's own.",
            ENDS,
        ),
    )

    def __post_init__(self) -> None:
        settle(self)

    @property
    def is_neutral(self) -> bool:
        """Whether every prompt stays as the model encodes it."""
        return self.strength == 0
