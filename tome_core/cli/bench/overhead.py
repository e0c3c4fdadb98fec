"""How long a call spends on merging itself: on matching, merging and unmerging."""

from collections.abc import Callable
from typing import Literal, ParamSpec, TypeVar

from torch import Tensor, nn

from ...merging import MergePlan
from ...speed import SpeedConfig
from ..machine import Clock
from ..settings import merge

P = ParamSpec("P")
T = TypeVar("T")


def overhead(unet: nn.Module, config: SpeedConfig, call: Callable[[], object], clock: Clock) -> float:
    """Return the share of one merged call's time that goes into finding, merging and unmerging its tokens."""
    watch = _Stopwatch(clock)
    with merge(unet, config) as handle:
        find_plan = handle.state.plan

        def timed_plan(*args: object) -> MergePlan | None:
            plan = watch.time(find_plan, *args)  # type: ignore[arg-type]
            return None if plan is None else _TimedPlan(plan, watch)

        handle.state.plan = timed_plan  # type: ignore[method-assign]  # of this handle alone
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
