"""How long whole model calls take, merged and untouched: one of each size and kind is timed as it comes."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .timing import CannotTimeError, stopwatch

Size = tuple[int, int, int]  # rows, and height and width of the latent


@dataclass
class CallTimes:
    """Seconds of model calls of one size, and what the cost model says of them.

    Attributes:
        merged: a call in which tokens merge, where it was timed.
        untouched: a call outside the part of the run in which they do.
        saved: what merging should save of a call, all rows together; None where a level could not be timed.
    """

    merged: float | None = None
    untouched: float | None = None
    saved: float | None = None

    @property
    def expected_ratio(self) -> float | None:
        """Time of a merged call over an untouched one by the cost model; None before a call was timed."""
        if self.saved is None or (self.merged is None and self.untouched is None):
            return None
        if self.untouched is not None:
            return max(0.0, 1 - self.saved / self.untouched)
        return (self.merged or 0.0) / ((self.merged or 0.0) + self.saved)

    @property
    def measured_ratio(self) -> float | None:
        """Time of a merged call over an untouched one, where both were timed."""
        return self.merged / self.untouched if self.merged is not None and self.untouched else None

    def update(self, newer: "CallTimes") -> None:
        """Take what was timed since."""
        for name, seconds in vars(newer).items():
            if seconds is not None:
                setattr(self, name, seconds)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return {**vars(self), "expected_ratio": self.expected_ratio, "measured_ratio": self.measured_ratio}


class CallClock:
    """Times the second call of each size and kind: the first one is slow, and a guard measures in it.

    Args:
        times: gets what was timed.
    """

    def __init__(self, times: dict[Size, CallTimes]) -> None:
        self._times = times
        self._met: Counter[tuple[Size, bool]] = Counter()
        self.reset()

    def reset(self) -> None:
        """Forget the call under way."""
        self._running: tuple[Size, bool, Callable[[], float], float] | None = None

    def begin(self, size: Size, device: torch.device, *, merges: bool) -> None:
        """Begin a call on a device, in which tokens may merge or not."""
        self.reset()
        self._met[size, merges] += 1
        if self._met[size, merges] == 2:
            try:
                now = stopwatch(device)
            except CannotTimeError:
                return
            self._running = (size, merges, now, now())

    def end(self, saved: float | None) -> None:
        """End the call; a row of it should have saved so many seconds by merging, if that is known."""
        running, self._running = self._running, None
        if running is None:
            return
        size, merges, now, start = running
        seconds, times = now() - start, self._times.setdefault(size, CallTimes())
        if merges:
            times.merged, times.saved = seconds, None if saved is None else saved * size[0]
        else:
            times.untouched = seconds
