"""Never slower: what merging would save at each level of a model, measured on the device, and where it does not pay."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

LEAST_GAIN = 0.02


@dataclass(frozen=True)
class LevelTimes:
    """Seconds of one model call that a level takes.

    Attributes:
        untouched: all of its blocks on every token.
        merged: the same on merged tokens, their merging and unmerging included.
        matching: finding out which tokens merge, once.
    """

    untouched: float
    merged: float
    matching: float

    @property
    def gain(self) -> float:
        """The share of the level's time that merging saves; below 0 it costs."""
        return 1 - (self.merged + self.matching) / self.untouched


class Guard:
    """Decides at which levels merging pays. One guard may serve many models and runs: what it measured it keeps.

    Two guards may decide otherwise where the gain is close to the least one, and then the same seed gives another
    picture: keep the guard for as long as pictures shall be the same, or name the levels and do without one.

    Args:
        least_gain: the share of a level's time that merging must save there, 0 to 1.

    Raises:
        ValueError: `least_gain` is outside 0 to 1.
    """

    def __init__(self, least_gain: float = LEAST_GAIN) -> None:
        if not 0 <= least_gain <= 1:
            raise ValueError(f"least_gain must be a number from 0 to 1, got {least_gain!r}")
        self.least_gain = least_gain
        self._times: dict[Hashable, LevelTimes] = {}

    def times(self, key: Hashable, measure: Callable[[], LevelTimes]) -> LevelTimes:
        """Return the times of what `key` stands for, measured once."""
        if key not in self._times:
            self._times[key] = measure()
        return self._times[key]

    def refuses(self, times: LevelTimes) -> bool:
        """Return whether merging is to be left out where it would take these times."""
        return times.gain < self.least_gain
