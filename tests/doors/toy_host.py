"""A door to a toy host: the one file that a new host takes.

The host hands out a loaded model, and has a place for a function around each evaluation of its network, at noise levels
from 1 (noise alone) to 0 of flow matching. It says when a run begins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tome_core.speed import SpeedConfig, SpeedReport
from tome_core.speed.engine.engine import SpeedEngine
from tome_core.speed.layouts.points import Layout
from tome_core.speed.plans.run import ModelCall, SamplingRun, SamplingRuns
from tome_core.speed.plans.schedule import NoiseSchedule


class ToyHost:
    """Euler steps of a flow model. `around`, if there is one, is called in the place of each evaluation."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.around: Callable[..., Tensor] | None = None

    def sample(self, noise: Tensor, text: Tensor, steps: int) -> Tensor:
        """Return clean latents [B, 4, height, width]."""
        x, run = noise, object()
        for step in range(steps):
            level = noise.new_full((len(noise),), 1 - step / steps)
            if self.around is None:
                velocity = self.network(x, level, text)
            else:
                velocity = self.around(self.network, run, x, level, text)
            x = x - velocity / steps
        return x


def patch_toy(host: ToyHost, layout: Layout, config: SpeedConfig) -> tuple[SpeedReport, Callable[[], None]]:
    """Merge tokens in a toy host's network from now on; return the report, and what takes it back."""
    engine, runs = SpeedEngine(config, layout), SamplingRuns()
    report = SpeedReport.before_calls(layout, config)
    schedule = NoiseSchedule(lambda level: 1 - level, "flow_prediction", _amounts)

    def around(network: nn.Module, run: object, x: Tensor, level: Tensor, text: Tensor) -> Tensor:
        def new_run() -> SamplingRun:
            return SamplingRun(config, report, schedule, key=run)

        own = runs.find(run, x, level.tolist, text, new_run, is_announced=True)
        engine.begin(ModelCall(own, x, level, text), (x.shape[2], x.shape[3]))
        try:
            velocity = network(x, level, text)
        except BaseException:
            engine.abort()
            runs.drop(own)
            raise
        engine.end(velocity)
        return velocity

    handles: list[RemovableHandle] = []
    engine.install(host.network, handles)
    host.around = around

    def close() -> None:
        host.around = None
        for handle in handles:
            handle.remove()

    return report, close


def _amounts(levels: Any) -> tuple[Tensor, Tensor]:
    sigma = Tensor(list(levels))
    return 1 - sigma, sigma
