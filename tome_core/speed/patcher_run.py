"""One sampling run of a patcher: what outlives a model call and ends with the run."""

import threading
from typing import Any

from torch import Tensor

from .call_times import CallClock
from .config import SpeedConfig
from .patcher_features import Estimates
from .patcher_time import NoiseLevels
from .report import SpeedReport
from .sentences import idle_in_run
from .state import SpeedState

RUN = "tome_speed_run"  # where the run is in the options that the host makes for it


class SpeedRun:
    """The plans and images of one sampling run. A host that runs its model in several threads has them for each.

    A run without a beginning, where the host tells of none, goes on: timesteps that go up then begin another one.

    Args:
        config: what to merge.
        report: gets what happens in this run.
        is_told: whether the host tells of its beginning and end.
    """

    def __init__(self, config: SpeedConfig, report: SpeedReport, *, is_told: bool) -> None:
        self.report = report
        self._config = config
        self._is_told = is_told
        self._of_thread = threading.local()

    def __deepcopy__(self, memo: dict[int, Any]) -> "SpeedRun":
        return self  # a copy of the options that carry it is in the same run

    def __call__(self, model_sampling: Any, sigmas: Tensor | None = None) -> "RunMemory":
        """Return what this thread knows of the run, whose steps the host has at `sigmas` and, at last, at 0."""
        memory: RunMemory | None = getattr(self._of_thread, "memory", None)
        if memory is None or memory.noise.model_sampling is not model_sampling:
            memory = self._of_thread.memory = RunMemory(self._config, self.report, model_sampling)
            if self._is_told:
                memory.state.begin_run()
                memory.note_idle(sigmas)
        return memory


class RunMemory:
    """What one thread knows of a run.

    Attributes:
        report: gets what happens in it.
        noise: its noise levels.
        state: its plans.
        estimates: what its steps took the pictures to be.
        clock: times its calls, where there is a guard.
    """

    def __init__(self, config: SpeedConfig, report: SpeedReport, model_sampling: Any) -> None:
        self._config, self.report = config, report
        self.noise = NoiseLevels(model_sampling)
        self.state = SpeedState(config, report, train_timesteps=self.noise.train_timesteps)
        self.estimates = Estimates(report)
        self.clock = CallClock(report.call_times)

    def note_idle(self, sigmas: Tensor | None) -> None:
        """Report what has no effect in a run whose steps are at these sigmas."""
        if sigmas is None or len(sigmas) < 2:
            return
        for sentence in idle_in_run(
            self._config, list(map(self.state.percent, self.noise.timesteps(sigmas[:-1]).tolist()))
        ):
            self.report.note(sentence)
