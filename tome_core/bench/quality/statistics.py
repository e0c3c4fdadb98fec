"""Intervals and tests by prompt: pictures of one prompt are no independent draws, so prompts are resampled whole."""

import warnings
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

RESAMPLES: Final = 10_000
CONFIDENCE: Final = 0.95

Floats = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Tally:
    """A figure as a ratio of sums: `over[p]` of `of[p]` for each prompt p, such as right pictures of all pictures."""

    over: Floats  # [P]
    of: Floats  # [P]

    @property
    def value(self) -> float | None:
        """The figure over all prompts; None where nothing was counted."""
        return float(self.over.sum() / self.of.sum()) if self.of.sum() else None


class Difference(NamedTuple):
    """A figure less another one of the same prompts; None where one of them is not defined."""

    difference: float | None
    interval: Interval | None
    p: float | None


def interval(tally: Tally, *, seed: int = 0) -> Interval | None:
    """Return the percentile bootstrap interval of a figure (Efron and Tibshirani 1993, chapter 13).

    Prompts are drawn with replacement, with all of their pictures (Davison and Hinkley 1997, section 3.8). None with
    fewer than two prompts, or where a resample in twenty leaves the figure undefined. Where every picture agrees the
    interval has no width, although the truth may be elsewhere.
    """
    return _bootstrap(_ratio, tally.over, tally.of, seed=seed)


def compare(tally: Tally, baseline: Tally, *, seed: int = 0) -> Difference:
    """Return the difference of two figures of the same prompts, its bootstrap interval and its p-value.

    The interval resamples prompts with the pictures of both. The paired permutation test exchanges the methods within
    prompts (Fisher 1935; Good 2005, section 3.7): two-sided, over all exchanges where they are no more than 10,000,
    else over as many random ones and the observed one (Phipson and Smyth 2010), so that p is at least 1 / 10,001.

    Raises ValueError for different numbers of prompts.
    """
    if len(tally.over) != len(baseline.over):
        raise ValueError(f"baseline must be of {len(tally.over)} prompts, got {len(baseline.over)}")
    if tally.value is None or baseline.value is None:
        return Difference(None, None, None)
    parts = tally.over, tally.of, baseline.over, baseline.of
    between = _bootstrap(lambda a, b, c, d, axis: _ratio(a, b, axis) - _ratio(c, d, axis), *parts, seed=seed)
    return Difference(tally.value - baseline.value, between, _permutation_p(tally, baseline, seed))


class _Draws(np.random.Generator):
    """scipy's resampling, on the random numbers on which the recorded tables rest, which so stay as they are."""

    def integers(self, low: Any, high: Any = None, size: Any = None, **_: Any) -> Any:
        counts = self.multinomial(high, np.full(high, 1 / high), size=size[0])
        return np.repeat(np.tile(np.arange(high), size[0]), counts.ravel()).reshape(size)

    def permuted(self, x: Any, **_: Any) -> Any:
        """Return pairs [R, P, 2], exchanged or not."""
        keeps = super().integers(2, size=x.shape[:2], dtype=np.int8).astype(bool)
        return np.where(keeps[..., None], x, x[..., ::-1])


def _bootstrap(statistic: Any, *parts: Floats, seed: int) -> Interval | None:
    """Return the interval of a function of parts [P], whose prompts are resampled together."""
    if len(parts[0]) < 2:
        return None
    rng = _Draws(np.random.PCG64(np.random.SeedSequence([seed, 0])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # undefined figures are left out below
        found = stats.bootstrap(
            parts, statistic, paired=True, vectorized=True, n_resamples=RESAMPLES, method="percentile", rng=rng
        )
    values = found.bootstrap_distribution
    defined = values[np.isfinite(values)]
    if len(defined) < CONFIDENCE * len(values):
        return None
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _permutation_p(tally: Tally, baseline: Tally, seed: int) -> float:
    prompts = len(tally.over)
    over, of = np.concatenate([tally.over, baseline.over]), np.concatenate([tally.of, baseline.of])

    def distance(mine: Any, other: Any, axis: int) -> Any:
        """Return how far the figures are apart, from the rows of `over` and `of` that belong to each method."""
        return abs(_ratio(over[mine], of[mine], axis) - _ratio(over[other], of[other], axis))

    found = stats.permutation_test(
        (np.arange(prompts), np.arange(prompts) + prompts),
        distance,
        permutation_type="samples",
        alternative="greater",  # of a distance: two-sided
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=_Draws(np.random.PCG64(np.random.SeedSequence([seed, 1]))),
    )
    counted = 0 if 2**prompts <= RESAMPLES else 1  # all exchanges hold the observed one, random ones do not
    distances = found.null_distribution[np.isfinite(found.null_distribution)]
    as_large = distances >= found.statistic - 1e-12  # equal ones must count, whatever the order of the sums
    return float((counted + as_large.sum()) / (counted + len(distances)))


def _ratio(over: Floats, of: Floats, axis: int = -1) -> Any:
    """Return the figure in each resample; NaN where nothing was counted."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return over.sum(axis=axis) / of.sum(axis=axis)
