"""What is read off each picture, and the figures of a method that come of it, with intervals and tests by prompt."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...demo.architecture import HEADS, PICTURE_SIZE, PictureTower, load_pair, to_unit
from ...errors import UserError
from ...metrics import psnr, relative_deviation, ssim
from ..clock import Spread
from ..drawing.sampling import Drawn
from ..judge import Score, judge, score
from ..judge.scoring import ERRORS
from ..suites import Case
from .statistics import Difference, Interval, Tally, compare, interval


@dataclass(frozen=True)
class Fidelity:
    """How far a picture is from the untouched one of the same prompt and noise."""

    psnr: float  # dB, infinite where they are equal
    ssim: float  # 1 where they are equal
    latent_deviation: float  # of the final latents, as a fraction of the untouched one's norm
    clip_distance: float | None  # in the project's own CLIP picture tower: 1 - cosine, 0 where they are equal


class Reader:
    """Reads pictures; `judged` says whether the judge knows the attribute that binds in them.

    checkpoint: the weights that drew them, beside which lies the picture tower that was trained with them, or else a
        `UserError` is raised. None for another model, whose pictures have no distance in that tower.
    """

    def __init__(self, checkpoint: Path | None, *, judged: bool) -> None:
        self.judged = judged
        self._tower = None
        if checkpoint is not None:
            heads = checkpoint.with_name(HEADS.name)
            if not heads.is_file():
                raise UserError(f"checkpoint must have the picture tower {HEADS.name} beside it, got {checkpoint}")
            self._tower = load_pair(nn.Identity(), heads).picture

    def score(self, case: Case, drawn: Drawn) -> Score | None:
        """Return how a picture meets its prompt; None where the judge cannot say."""
        return score(judge(drawn.pictures[0]), case.wanted) if self.judged else None

    def fidelity(self, drawn: Drawn, untouched: Drawn) -> Fidelity:
        """Compare one picture with the untouched one."""
        pictures = [to_unit(x.pictures) for x in (drawn, untouched)]
        fractions = [(x + 1) / 2 for x in pictures]
        deviation = relative_deviation(*(torch.from_numpy(x.latents) for x in (drawn, untouched))).item()
        distance = None if self._tower is None else _clip_distance(self._tower, *pictures)
        return Fidelity(psnr(*fractions).item(), ssim(*fractions).item(), deviation, distance)


@torch.no_grad()
def _clip_distance(tower: PictureTower, *pictures: Tensor) -> float:
    first, second = (tower(F.interpolate(x, (PICTURE_SIZE,) * 2, mode="area")).double() for x in pictures)
    return 1 - F.cosine_similarity(first, second, dim=1).item()


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
            "against_untouched": {name: found._asdict() for name, found in self.against.items()},
            "equal_to_untouched": self.equal,
            **self.time.as_dict("time_ratio"),
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
