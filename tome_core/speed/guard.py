"""Never slower: a cost model of each level, and what it says merging would save there or cost.

The model is of one row of the batch, alone. An image is then treated alike whatever it shares a batch with, and what
pays for one row pays for more of them: their work grows with their number, what a call costs beside it does not.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

LEAST_GAIN = 0.02  # of the time of the parts that merge; what is less is not worth a change of the picture
_POWERS = (1, 0, 2)  # of the number of tokens; the likeliest first, since that is what a single point tells
_LARGEST_SIDE = 4096  # pixels, up to which a gain is looked for
_SIDES_APART = 64


@dataclass(frozen=True)
class Curve:
    """Seconds for n tokens: fixed + linear n + square n^2. Attention is the square, launches are what is fixed."""

    fixed: float = 0.0
    linear: float = 0.0
    square: float = 0.0

    def __call__(self, tokens: int) -> float:
        """Return the seconds for a number of tokens."""
        return self.fixed + self.linear * tokens + self.square * tokens * tokens

    def __mul__(self, factor: float) -> "Curve":
        return Curve(self.fixed * factor, self.linear * factor, self.square * factor)

    @classmethod
    def through(cls, points: Mapping[int, float]) -> "Curve":
        """Return the curve of least squared relative error through `points`, tokens to seconds, none of it negative.

        The same points give the same curve. Where there are fewer points than terms, those that are missing are 0.

        Raises:
            ValueError: there is no point, or one that is not a positive time of one or more tokens.
        """
        if not points or not all(n > 0 and math.isfinite(t) and t > 0 for n, t in points.items()):
            raise ValueError(f"points must be positive seconds for 1 or more tokens, got {dict(points)}")
        best, least = [0.0, 0.0, 0.0], math.inf
        for count in range(1, min(len(points), len(_POWERS)) + 1):
            for powers in combinations(_POWERS, count):
                rows = [[float(n) ** power / t for power in powers] for n, t in points.items()]
                found, *_ = np.linalg.lstsq(np.array(rows), np.ones(len(rows)), rcond=None)
                error = float(np.square(np.array(rows) @ found - 1).sum())
                if found.min() >= 0 and error < least - 1e-12:
                    best, least = [0.0, 0.0, 0.0], error
                    for power, value in zip(powers, found, strict=True):
                        best[power] = float(value)
        return cls(*best)


@dataclass(frozen=True)
class Verdict:
    """What merging does to one row of a level at one number of tokens, as the cost model has it.

    Attributes:
        left_out: the parts that do not merge.
        gain: the share of the time of the parts that merging would save; below 0 it would cost.
        saved_seconds: of one row and call, by what does merge; 0 where nothing does.
        saved_seconds_by_all: the same if every part merged, whatever it costs.
    """

    left_out: frozenset[str]
    gain: float
    saved_seconds: float
    saved_seconds_by_all: float

    def as_dict(self) -> dict[str, object]:
        """Return JSON-able values."""
        return {**vars(self), "left_out": sorted(self.left_out)}


@dataclass(frozen=True)
class LevelTimes:
    """Seconds that one row of a level takes in one model call, all blocks together, by its number of tokens.

    Attributes:
        untouched: for each part that the config merges, on every token.
        merged: the same on merged tokens, with their merging and unmerging.
        matching: finding out which tokens merge, for all the parts.
        most_tokens: the largest number of tokens that was timed; what is told of more than four times as many is
            not to be trusted. None: of any number it is.
    """

    untouched: Mapping[str, Curve]
    merged: Mapping[str, Curve]
    matching: Curve = Curve()
    most_tokens: int | None = None

    def verdict(self, tokens: int) -> Verdict | None:
        """Return what merging does to so many tokens; None where a time is zero, negative or no number.

        A part that takes no less time merged is left out; so are all if the others save less than `LEAST_GAIN`.
        """
        untouched = {part: curve(tokens) for part, curve in self.untouched.items()}
        saved = {part: untouched[part] - self.merged[part](tokens) for part in untouched}
        matching = self.matching(tokens)
        positive = [
            *untouched.values(),
            *(self.merged[part](tokens) for part in untouched),
            *([matching] * (matching != 0)),
        ]
        if not untouched or not all(math.isfinite(time) and time > 0 for time in positive):
            return None
        paying = {part for part in saved if saved[part] > 0}
        whole = sum(untouched[part] for part in paying) or sum(untouched.values())
        gain = (sum(saved[part] for part in paying or saved) - matching) / whole
        kept = paying if gain >= LEAST_GAIN else set()
        by_kept = sum(saved[part] for part in kept) - matching if kept else 0.0
        return Verdict(frozenset(saved.keys() - kept), gain, by_kept, sum(saved.values()) - matching)

    def least_side(self, tokens: int, pixels: int) -> int | None:
        """Return the side of the smallest square picture, larger than this one, at which some part pays.

        Args:
            tokens: of the picture that there is, at this level.
            pixels: per token and side.

        Returns:
            pixels, in steps of 64; None where it is beyond `largest_side`.
        """
        first = (int(math.sqrt(tokens) * pixels) // _SIDES_APART + 1) * _SIDES_APART
        for side in range(first, self.largest_side(pixels) + 1, _SIDES_APART):
            verdict = self.verdict(max(1, (side // pixels) ** 2))
            if verdict is not None and verdict.saved_seconds > 0:
                return side
        return None

    def largest_side(self, pixels: int) -> int:
        """Return the side of the largest square picture of which something can be told, given pixels per token."""
        if self.most_tokens is None:
            return _LARGEST_SIDE
        side = int(2 * math.sqrt(self.most_tokens) * pixels)
        return min(side - side % _SIDES_APART, _LARGEST_SIDE)


Timings = Callable[[int, tuple[int, int]], LevelTimes]  # of a level's number and its grid, height and width in tokens
