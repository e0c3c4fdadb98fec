"""Compare what a picture holds with what its prompt asked for, object by object."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ...demo.scene import Kind
from .judge import Found
from .segmentation import UNSURE

Fate = Literal["right", "swapped", "leaked", "wrong", "unsure colour", "unsure shape", "missing"]
"""What became of one wanted object.

right          there is an object of its shape and colour
swapped        its object has the colour wanted for another one, whose object has this one's colour
leaked         its object has the colour wanted for another one, without a swap
wrong          its object has a colour that no other one was to have
unsure colour  there is an object of its shape, of an unsure colour
unsure shape   there is no object of its shape, but one of an unsure shape that may stand for it
missing        there is neither
"""
ERRORS: Final = ("swapped", "leaked", "wrong")  # the gravest first


@dataclass(frozen=True)
class Score:
    """How a picture meets its prompt."""

    fates: tuple[Fate, ...]  # one for each wanted object, in the order given
    extra: tuple[Found, ...]  # objects that stand for none of the wanted ones

    @property
    def right(self) -> bool:
        """Fully right: every wanted object in its own colour, and nothing else in the picture."""
        return not self.extra and all(fate == "right" for fate in self.fates)

    @property
    def present(self) -> bool:
        """Presence: all wanted shapes are there, each in whatever colour; extra objects do not matter."""
        return not {"missing", "unsure shape"}.intersection(self.fates)

    @property
    def binding(self) -> str | None:
        """Whether the wanted shapes have their colours, given presence (None without it): the gravest error decides."""
        if not self.present:
            return None
        without = "unsure" if "unsure colour" in self.fates else "right"
        return next((error for error in ERRORS if error in self.fates), without)

    @property
    def word(self) -> str:
        """One word for the picture: right, or the most important thing that keeps it from being right."""
        if self.right:
            return "right"
        if self.binding in ERRORS:
            return self.binding
        return "missing" if "missing" in self.fates else "unsure" if self.unsure else "extra"

    @property
    def unsure(self) -> bool:
        """Whether the judge was unsure of the colour or shape of any object, wanted or extra."""
        is_extra_unsure = any(UNSURE in (found.colour, found.shape) for found in self.extra)
        return is_extra_unsure or any(fate.startswith("unsure") for fate in self.fates)


def score(objects: Sequence[Found], wanted: Sequence[Kind]) -> Score:
    """Compare the objects that the judge found with the wanted ones, each a (colour, shape).

    Every object stands for at most one wanted one, and the reading that favours the picture counts, as `_MATCHES` has
    them. What is left over is extra, so a second red square is extra even where two reds were to be expected.

    Raises ValueError when nothing is wanted.
    """
    if not wanted:
        raise ValueError("wanted must be at least one (colour, shape), got none")
    matches = _match(objects, wanted)
    taken = {id(found) for found in matches if found is not None}
    extra = tuple(found for found in objects if id(found) not in taken)
    return Score(tuple(_fate(index, matches, wanted) for index in range(len(wanted))), extra)


_MATCHES: Final[tuple[Callable[[Found, Kind], bool], ...]] = (
    lambda found, kind: (found.colour, found.shape) == kind,
    lambda found, kind: (found.colour, found.shape) == (UNSURE, kind[1]),
    lambda found, kind: found.shape == kind[1],
    lambda found, kind: found.shape == UNSURE and found.colour == kind[0],
    lambda found, kind: found.shape == UNSURE,
)
"""When an object may stand for a wanted one, the best reason first."""


def _match(objects: Sequence[Found], wanted: Sequence[Kind]) -> list[Found | None]:
    """Give each wanted object at most one that stands for it, and no object to two."""
    matches: list[Found | None] = [None] * len(wanted)
    free = list(objects)
    for stands_for in _MATCHES:
        for index, kind in enumerate(wanted):
            found = next((found for found in free if stands_for(found, kind)), None)
            if matches[index] is None and found is not None:
                matches[index] = found
                free = [other for other in free if other is not found]
    return matches


def _fate(index: int, matches: Sequence[Found | None], wanted: Sequence[Kind]) -> Fate:
    found, (colour, _) = matches[index], wanted[index]
    if found is None:
        return "missing"
    if found.shape == UNSURE:
        return "unsure shape"
    if found.colour == UNSURE:
        return "unsure colour"
    if found.colour == colour:
        return "right"
    owners = [match for match, kind in zip(matches, wanted, strict=True) if kind[0] == found.colour]
    if any(owner is not None and owner.shape != UNSURE and owner.colour == colour for owner in owners):
        return "swapped"
    return "leaked" if owners else "wrong"
