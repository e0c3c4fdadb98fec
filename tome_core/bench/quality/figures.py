"""From readings of single pictures to the figures of a method, with intervals and tests by prompt."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, TypeVar

import numpy as np

from ..clock import Spread
from ..judge import Score
from ..judge.scoring import ERRORS
from ..suites import Case
from .readings import Fidelity
from .statistics import Difference, Interval, Tally, compare, interval

Role = Literal["baseline", "control", "method"]
Part = tuple[float, float]  # what one picture adds to both sums of a figure
T = TypeVar("T")

JUDGED: Final[Mapping[str, Callable[[Score], Part]]] = {
    "fully_right": lambda score: (score.right, 1),
    "presence": lambda score: (score.present, 1),
    "binding_error": lambda score: (score.binding in ERRORS, score.present),
    "leaked": lambda score: (score.binding == "leaked", 1),
    "swapped": lambda score: (score.binding == "swapped", 1),
    "wrong": lambda score: (score.binding == "wrong", 1),
    "missing": lambda score: ("missing" in score.fates, 1),
    "extra": lambda score: (bool(score.extra), 1),
    "unsure": lambda score: (score.unsure, 1),
}
"""Shares of all pictures, but for `binding_error`: of those in which all wanted shapes are present."""

COMPARED: Final = ("fully_right", "presence", "binding_error")
"""What is tested against the untouched pictures."""

FIDELITY: Final[Mapping[str, Callable[[Fidelity], Part]]] = {
    "psnr_db": lambda near: (near.psnr, 1) if math.isfinite(near.psnr) else (0, 0),
    "ssim": lambda near: (near.ssim, 1),
    "latent_deviation": lambda near: (near.latent_deviation, 1),
    "clip_distance": lambda near: (0, 0) if near.clip_distance is None else (near.clip_distance, 1),
}
"""Means over the pictures; `psnr_db` over those that are not equal to the untouched ones."""


@dataclass(frozen=True)
class Readings:
    """What was read off a method's pictures, case by case; no scores where the judge cannot say."""

    scores: Sequence[Score]
    fidelities: Sequence[Fidelity]


@dataclass(frozen=True)
class MethodFigures:
    """The figures of one method; `against` holds those of `COMPARED` less the untouched pictures'."""

    name: str
    role: Role
    pictures: int
    equal: int  # pictures that are equal to the untouched ones
    tallies: Mapping[str, Tally]
    against: Mapping[str, Difference]
    time: Spread  # of a picture, over the untouched one's of the same round: below 1 is faster

    @cached_property
    def intervals(self) -> dict[str, Interval | None]:
        """The interval of each figure, by prompt."""
        return {name: interval(tally) for name, tally in self.tallies.items()}

    def value(self, name: str) -> float | None:
        """Return a figure; None where it is undefined or cannot be judged."""
        return self.tallies[name].value if name in self.tallies else None

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return {
            "method": self.name,
            "role": self.role,
            "pictures": self.pictures,
            **{name: self.value(name) for name in (*JUDGED, *FIDELITY)},
            "intervals": self.intervals,
            "against_untouched": {
                name: {"difference": found.value, "interval": found.interval, "p": found.p}
                for name, found in self.against.items()
            },
            "equal_to_untouched": self.equal,
            "time_ratio": self.time.median,
            "time_ratio_min": self.time.least,
            "time_ratio_max": self.time.most,
        }


def method_figures(
    name: str, role: Role, cases: Sequence[Case], readings: Readings, untouched: Readings, time: Spread
) -> MethodFigures:
    """Return the figures of a method from the readings of its pictures and of the untouched ones."""
    judged = tally_all(JUDGED, cases, readings.scores)
    before = tally_all(JUDGED, cases, untouched.scores)
    is_baseline = role == "baseline"
    near = {} if is_baseline else tally_all(FIDELITY, cases, readings.fidelities)
    against = {} if is_baseline else {name: compare(judged[name], before[name]) for name in COMPARED if name in judged}
    equal = sum(math.isinf(fidelity.psnr) for fidelity in readings.fidelities)
    return MethodFigures(name, role, len(cases), equal, judged | near, against, time)


def tally_all(parts: Mapping[str, Callable[[T], Part]], cases: Sequence[Case], read: Sequence[T]) -> dict[str, Tally]:
    """Return each figure's sums by prompt, prompts in the order of the cases; none where nothing was read."""
    if not read:
        return {}
    order = list(dict.fromkeys(case.prompt for case in cases))
    prompts = np.array([order.index(case.prompt) for case in cases])

    def by_prompt(values: Sequence[float]) -> np.ndarray:
        return np.bincount(prompts, weights=np.array(values, float))

    pairs = {name: zip(*(part(one) for one in read), strict=True) for name, part in parts.items()}
    return {name: Tally(*map(by_prompt, pair)) for name, pair in pairs.items()}
