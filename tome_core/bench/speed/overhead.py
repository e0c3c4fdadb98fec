"""How long a call spends on merging itself: on matching, merging and unmerging."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, ParamSpec, TypeVar

from torch import Tensor, nn

from ...merging import MergePlan
from ...speed import Matcher, SpeedConfig
from ...speed.plans.making import named_matcher
from ..clock import Clock
from ..methods.merging import merge

P = ParamSpec("P")
T = TypeVar("T")


def overhead(unet: nn.Module, config: SpeedConfig, call: Callable[[], object], clock: Clock) -> float:
    """Return the share of one merged call's time that goes into matching, merging and unmerging its tokens.

    Not counted are the features that are matched on, and what is added back to tokens around a whole block or stack.
    The call begins a run of its own, so that it reuses no plan of an earlier step, whatever the config's refresh says.
    """
    watch = _Stopwatch(clock)
    with merge(unet, replace(config, refresh=1), watch.timed(named_matcher(config))):
        start = clock()
        call()
        whole = clock.figure(clock() - start)
    return watch.seconds / whole


class _Stopwatch:
    """Adds up the time of functions, on the clock that counts on a device."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.seconds = 0.0

    def time(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        start = self._clock()
        result = function(*args, **kwargs)
        self.seconds += self._clock.figure(self._clock() - start)
        return result

    def timed(self, matcher: Matcher) -> Matcher:
        """Return a matcher that is timed, and whose plans are."""

        def match(metric: Tensor, height: int, width: int, r: int) -> MergePlan:
            return _TimedPlan(self.time(matcher, metric, height, width, r), self)

        return match


class _TimedPlan(MergePlan):
    """A plan whose merging and unmerging is timed."""

    def __init__(self, plan: MergePlan, watch: _Stopwatch) -> None:
        super().__init__(**vars(plan))
        object.__setattr__(self, "_timed", (plan, watch))

    def merge(self, x: Tensor, *, mode: Literal["mean", "sum"] = "mean", sizes: Tensor | None = None) -> Tensor:
        plan, watch = vars(self)["_timed"]
        return watch.time(plan.merge, x, mode=mode, sizes=sizes)

    def unmerge(self, y: Tensor) -> Tensor:
        plan, watch = vars(self)["_timed"]
        return watch.time(plan.unmerge, y)
