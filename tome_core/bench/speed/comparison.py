"""Methods on one denoiser: each call is observed once, all are timed in turn, and what merging itself takes is read."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Final

from torch import Tensor

from ..clock import Clock, Seconds
from ..drawing.method import LeftOutError
from ..methods.merging import TOMESD, Merging, failed
from .ceiling import ceiling_of
from .overhead import overhead
from .probe import Probe, probe
from .results import MethodTimes
from .timing import take_turns

_LOGGER: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpeedResults:
    """The times of each method, what was left out and why, and whether every round was done."""

    methods: list[MethodTimes]
    left_out: list[dict[str, str]]
    is_whole: bool


@dataclass(frozen=True)
class SpeedComparison:
    """What to time: methods, of which the first is the untouched model, and how.

    Attributes:
        call: one call of the denoiser, always the same.
        with_ceilings: whether each of ours is timed also with a merge that costs nothing.
    """

    unet: Any
    call: Callable[[], Tensor]
    methods: Sequence[Merging]
    rounds: int
    with_ceilings: bool
    clock: Clock

    @property
    def ceilings(self) -> dict[Merging, Merging]:
        """The ceiling of each method that has one, if they are wanted."""
        pairs = {method: ceiling_of(method) for method in self.methods if self.with_ceilings}
        return {method: ceiling for method, ceiling in pairs.items() if ceiling is not None}

    @property
    def calls(self) -> int:
        """How many calls it takes."""
        ways = len(self.methods) + len(self.ceilings)
        return 1 + ways * (1 + self.rounds) + len(self.ceilings) * self.rounds

    def measure(self, on_call: Callable[[], object]) -> SpeedResults:
        """Return the results; an interrupt ends the timing and keeps the whole rounds, or is raised before the first.

        Whatever fails in the model under another package's method leaves that method out.
        """
        left_out: list[dict[str, str]] = []
        probes: dict[Merging, Probe] = {}
        self.call()  # the first one takes memory that libraries keep
        on_call()
        for method in (*self.methods, *self.ceilings.values()):
            try:
                probes[method] = self._observe(method)
            except LeftOutError as reason:
                left_out.append({"method": method.name, "reason": str(reason)})
                _LOGGER.warning("%s is left out: %s", method.name, reason)
            on_call()
        ways = [partial(method.on, self.unet) for method in probes]
        rounds, is_whole = take_turns(ways, self.call, self.rounds, self.clock, on_call)
        times = {method: [row[i] for row in rounds] for i, method in enumerate(probes)}
        overheads: dict[Merging, float] = {}
        try:
            for method in self.ceilings if is_whole else ():
                overheads[method] = median(self._overhead(method, on_call) for _ in range(self.rounds))
        except KeyboardInterrupt:
            is_whole = False
        return SpeedResults(self._results(probes, times, overheads), left_out, is_whole)

    def _observe(self, method: Merging) -> Probe:
        with method.on(self.unet):
            try:
                return probe(self.unet, self.call)
            except Exception as error:
                if method.kind != TOMESD:
                    raise
                raise failed(error) from error

    def _overhead(self, method: Merging, on_call: Callable[[], object]) -> float:
        share = overhead(self.unet, method.config, self.call, self.clock)
        on_call()
        return share

    def _results(
        self, probes: dict[Merging, Probe], times: dict[Merging, list[Seconds]], overheads: dict[Merging, float]
    ) -> list[MethodTimes]:
        """Put together what was measured of each method, and of its ceiling."""
        first = self.methods[0]
        untouched = MethodTimes(first, probes[first], times[first], self.clock)
        results = [untouched]
        for method in self.methods[1:]:
            if method not in probes:
                continue
            bound, ceiling = None, self.ceilings.get(method)
            if ceiling is not None:
                bound = MethodTimes(ceiling, probes[ceiling], times[ceiling], self.clock, untouched)
            share = overheads.get(method)
            results.append(MethodTimes(method, probes[method], times[method], self.clock, untouched, bound, share))
        return results
