"""Methods on one denoiser: each call is observed once, all are timed in turn, and what merging itself takes is read."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from statistics import median
from typing import Any, Final

from torch import Tensor

from ..clock import Clock, Seconds
from ..drawing.method import LeftOutError
from ..methods.merging import Merging
from ..methods.tomesd import Tomesd, leaving_out
from .merge_cost import ceiling_of, overhead
from .probe import Probe, probe
from .results import MethodTimes

_LOGGER: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpeedResults:
    """The times of each method, what was left out and why, and whether every round was done."""

    methods: list[MethodTimes]
    left_out: list[dict[str, str]]
    is_whole: bool


@dataclass(frozen=True)
class SpeedComparison:
    """What to time, and how."""

    unet: Any
    call: Callable[[], Tensor]  # one call of the denoiser, always the same
    methods: Sequence[Merging]  # the first is the untouched model
    rounds: int
    with_ceilings: bool  # whether each of ours is timed also with a merge that costs nothing
    clock: Clock

    @cached_property
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
        """Return the results; an interrupt keeps the whole rounds, and is raised where there is none."""
        left_out: list[dict[str, str]] = []
        probes: dict[Merging, Probe] = {}
        self.call()  # the first one takes memory that libraries keep
        on_call()
        for method in (*self.methods, *self.ceilings.values()):
            try:
                leaving = leaving_out() if isinstance(method, Tomesd) else nullcontext()
                with method.on(self.unet), leaving:
                    probes[method] = probe(self.unet, self.call)
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
                shares = []
                for _ in range(self.rounds):
                    shares.append(overhead(self.unet, method.config, self.call, self.clock))
                    on_call()
                overheads[method] = median(shares)
        except KeyboardInterrupt:
            is_whole = False
        return SpeedResults(self._results(probes, times, overheads), left_out, is_whole)

    def _results(
        self, probes: dict[Merging, Probe], times: dict[Merging, list[Seconds]], overheads: dict[Merging, float]
    ) -> list[MethodTimes]:
        def times_of(method: Merging, *others: Any) -> MethodTimes:
            return MethodTimes(method, probes[method], times[method], self.clock, *others)

        untouched = times_of(self.methods[0])
        results = [untouched]
        for method in self.methods[1:]:
            if method in probes:
                ceiling = self.ceilings.get(method)
                bound = None if ceiling is None else times_of(ceiling, untouched)
                results.append(times_of(method, untouched, bound, overheads.get(method)))
        return results


def take_turns(
    ways: Sequence[Callable[[], AbstractContextManager[object]]],
    call: Callable[[], object],
    rounds: int,
    clock: Callable[[], Seconds],
    on_call: Callable[[], object],
) -> tuple[list[list[Seconds]], bool]:
    """Return the times of `call` under every way, round by round (A B C, A B C, ...), and whether all rounds are done.

    Entering and leaving a way is not timed. An interrupt ends the timing and keeps the whole rounds; before the first
    of them is whole it is raised.
    """

    def seconds(way: Callable[[], AbstractContextManager[object]]) -> Seconds:
        with way():
            start = clock()
            call()
            spent = clock() - start
        on_call()
        return spent

    done: list[list[Seconds]] = []
    try:
        while len(done) < rounds:
            done.append([seconds(way) for way in ways])
    except KeyboardInterrupt:
        if not done:
            raise
    return done, len(done) == rounds
