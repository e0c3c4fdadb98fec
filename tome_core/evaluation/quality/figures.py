"""From readings of single pictures to the figures of a method, with intervals and tests by prompt."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import numpy as np

from ..cases import Case
from ..scoring import Score
from .readings import Fidelity
from .statistics import Difference, Tally, compare, interval

Role = Literal["baseline", "control", "method"]
Part = tuple[float, float]  # what one picture adds to both sums of a figure
T = TypeVar("T")

ERRORS: Final = ("swapped", "leaked", "wrong")

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
class Spread:
    """The middle and the ends of some figures."""

    median: float
    least: float
    most: float


@dataclass(frozen=True)
class Result:
    """The figures of one method; `against` holds those of `COMPARED` less the untouched pictures'."""

    name: str
    role: Role
    pictures: int
    equal: int  # pictures that are equal to the untouched ones
    tallies: Mapping[str, Tally]
    against: Mapping[str, Difference]
    time: Spread  # of a picture, over the untouched one's of the same round: below 1 is faster

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able values; what is undefined or cannot be judged is None."""
        values = {name: self.tallies[name].value if name in self.tallies else None for name in (*JUDGED, *FIDELITY)}
        return {
            "method": self.name,
            "role": self.role,
            "pictures": self.pictures,
            **values,
            "intervals": {name: interval(tally) for name, tally in self.tallies.items()},
            "against_untouched": {
                name: {"difference": found.value, "interval": found.interval, "p": found.p}
                for name, found in self.against.items()
            },
            "equal_to_untouched": self.equal,
            "time_ratio": self.time.median,
            "time_ratio_min": self.time.least,
            "time_ratio_max": self.time.most,
        }


def outcome(score: Score) -> str:
    """Return one word for a picture: right, or the most telling thing that keeps it from being right."""
    if score.right:
        return "right"
    if score.binding in ERRORS:
        return str(score.binding)
    return "missing" if "missing" in score.fates else "unsure" if score.unsure else "extra"


@dataclass(frozen=True)
class Readings:
    """What was read off a method's pictures, case by case; no scores where the judge cannot say."""

    scores: Sequence[Score]
    fidelities: Sequence[Fidelity]


def result(
    name: str, role: Role, cases: Sequence[Case], readings: Readings, untouched: Readings, time: Spread
) -> Result:
    """Return the figures of a method from the readings of its pictures and of the untouched ones."""
    judged = tally_all(JUDGED, cases, readings.scores)
    before = tally_all(JUDGED, cases, untouched.scores)
    is_baseline = role == "baseline"
    near = {} if is_baseline else tally_all(FIDELITY, cases, readings.fidelities)
    against = {} if is_baseline else {name: compare(judged[name], before[name]) for name in COMPARED if name in judged}
    equal = sum(math.isinf(fidelity.psnr) for fidelity in readings.fidelities)
    return Result(name, role, len(cases), equal, judged | near, against, time)


def tally_all(parts: Mapping[str, Callable[[T], Part]], cases: Sequence[Case], read: Sequence[T]) -> dict[str, Tally]:
    """Return each figure's sums by prompt, prompts in the order of the cases; none where nothing was read."""
    if not read:
        return {}
    places = {prompt: place for place, prompt in enumerate(dict.fromkeys(case.prompt for case in cases))}
    prompts = np.array([places[case.prompt] for case in cases])

    def by_prompt(values: list[float]) -> np.ndarray:
        return np.bincount(prompts, weights=values, minlength=len(places))

    both = {name: [part(one) for one in read] for name, part in parts.items()}
    return {
        name: Tally(by_prompt([float(x) for x, _ in found]), by_prompt([float(y) for _, y in found]))
        for name, found in both.items()
    }
