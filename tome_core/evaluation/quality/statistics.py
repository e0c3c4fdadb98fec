"""Intervals and tests by prompt: pictures of one prompt are no independent draws, so prompts are resampled whole.

Nothing is corrected for the number of comparisons.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

RESAMPLES: Final = 10_000
CONFIDENCE: Final = 0.95

Floats = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Tally:
    """A figure as a ratio of sums: `over[p]` of `of[p]` for each prompt p, such as right pictures of all pictures.

    Means are the case of which `of` counts pictures; binding error given presence has the present ones there.
    """

    over: Floats  # [P]
    of: Floats  # [P]

    @property
    def value(self) -> float | None:
        """The figure over all prompts; None where nothing was counted."""
        return float(self.over.sum() / self.of.sum()) if self.of.sum() else None


@dataclass(frozen=True)
class Difference:
    """A figure less another one of the same prompts; None where one of them is not defined."""

    value: float | None
    interval: Interval | None
    p: float | None


def interval(tally: Tally, *, seed: int = 0) -> Interval | None:
    """Return the percentile bootstrap interval of a figure, over prompts (Efron and Tibshirani 1993, chapter 13).

    Prompts are the clusters that are drawn with replacement, with all of their pictures (Davison and Hinkley 1997,
    section 3.8). None with fewer than two prompts, or where a resample in twenty leaves the figure undefined. Where
    every picture agrees the interval has no width, although the truth may be elsewhere.
    """
    return _between(_ratios(tally, _weights(len(tally.over), seed))) if len(tally.over) > 1 else None


def compare(tally: Tally, baseline: Tally, *, seed: int = 0) -> Difference:
    """Return the difference of two figures of the same prompts, its bootstrap interval and its p-value.

    The interval resamples prompts with the pictures of both. The test is the paired permutation test: under the null
    hypothesis the labels of the two methods may be exchanged within any prompt. For figures that are means over
    equally many pictures this flips the signs of the differences by prompt (Fisher 1935; Good 2005, section 3.7).
    Two-sided, over random exchanges, the observed one counted (Phipson and Smyth 2010), so p is at least 1 / 10,001.

    Raises ValueError for different numbers of prompts.
    """
    if len(tally.over) != len(baseline.over):
        raise ValueError(f"baseline must be of {len(tally.over)} prompts, got {len(baseline.over)}")
    if tally.value is None or baseline.value is None:
        return Difference(None, None, None)
    weights = _weights(len(tally.over), seed)
    observed = tally.value - baseline.value
    between = _between(_ratios(tally, weights) - _ratios(baseline, weights)) if len(tally.over) > 1 else None
    return Difference(observed, between, _permutation_p(tally, baseline, observed, seed))


def _permutation_p(tally: Tally, baseline: Tally, observed: float, seed: int) -> float:
    kept = _exchanges(len(tally.over), seed)
    mine = (
        (kept @ (tally.over - baseline.over) + baseline.over.sum()),
        (kept @ (tally.of - baseline.of) + baseline.of.sum()),
    )
    other = tally.over.sum() + baseline.over.sum() - mine[0], tally.of.sum() + baseline.of.sum() - mine[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        differences = mine[0] / mine[1] - other[0] / other[1]
    differences = differences[np.isfinite(differences)]
    as_large = np.abs(differences) >= abs(observed) - 1e-12  # equal ones must count, whatever the order of the sums
    return float((1 + as_large.sum()) / (1 + len(differences)))


@lru_cache(maxsize=1)
def _weights(prompts: int, seed: int) -> Floats:
    """Return how often each prompt comes in each resample, [RESAMPLES, P]."""
    rng = np.random.default_rng([seed, 0])
    return rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=RESAMPLES).astype(np.float64)


@lru_cache(maxsize=1)
def _exchanges(prompts: int, seed: int) -> Floats:
    """Return for each prompt in each exchange whether the methods keep their labels, 1 or 0, [RESAMPLES, P]."""
    rng = np.random.default_rng([seed, 1])
    return rng.integers(2, size=(RESAMPLES, prompts), dtype=np.int8).astype(np.float64)


def _ratios(tally: Tally, weights: Floats) -> Floats:
    """Return the figure in each resample; NaN where nothing was counted."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (weights @ tally.over) / (weights @ tally.of)


def _between(values: Floats) -> Interval | None:
    defined = values[np.isfinite(values)]
    if len(defined) < CONFIDENCE * len(values):
        return None
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
