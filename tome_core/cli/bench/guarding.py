"""What the guard expects of merging beside what is measured, and whether a guarded model is ever slower."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import nn

from ...speed import SpeedConfig
from ..console import note
from ..machine import Clock, Seconds
from ..settings import merge
from ..table import table
from .timing import take_turns


@dataclass(frozen=True)
class GuardFigures:
    """What pairs of calls of one method tell of the guard.

    Attributes:
        method: its name.
        rounds: how often an untouched, a guarded and a merged call took turns.
        expected_ratio: time of a call that merges everywhere over an untouched one, by the cost model; None where a
            level could not be timed.
        measured_ratio: the same, measured: the middle one of the rounds' ratios.
        guarded_speed: speed with the guard on over that of the untouched model, the middle one of the rounds'; what
            must not be below 1.
        guarded_speeds: each round's.
        notes: what the guard left out and why.
    """

    method: str
    rounds: int
    expected_ratio: float | None
    measured_ratio: float
    guarded_speed: float
    guarded_speeds: list[float]
    notes: list[str]

    @property
    def error(self) -> float | None:
        """How far the expected ratio is from the measured one, as a share of it; None where nothing is expected."""
        return None if self.expected_ratio is None else self.expected_ratio / self.measured_ratio - 1

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return {**asdict(self), "error": self.error}


def guard_figures(
    unet: nn.Module,
    method: str,
    config: SpeedConfig,
    call: Callable[[], object],
    rows: int,
    rounds: int,
    clock: Clock,
    on_call: Callable[[], object],
) -> GuardFigures:
    """Calibrate once, then let an untouched, a guarded and an unguarded call take turns.

    All handles of the guarded kind go by the same times, so that none calibrates while it is timed. Seconds are those
    of the clock that the guard itself goes by: the processor's with one thread, the wall's with several and on a GPU.

    Args:
        unet: the model; nothing stays on it.
        method: a name for the figures.
        config: what merges; whether its own guard is on does not matter.
        call: one model call of `rows` rows.
        rounds: 20 for a figure to be told.
        clock: of the device.
        on_call: called after each timed call.
    """
    guarded = replace(config, guard=True)
    with merge(unet, guarded) as handle:
        call()
        times, report = handle.times, handle.report
    ways = [nullcontext, partial(merge, unet, guarded, timings=lambda *place: times[place])]
    ways.append(partial(merge, unet, replace(config, guard=False)))
    done, _ = take_turns(ways, call, rounds, clock, on_call)
    seconds = [[_seconds(time, clock) for time in row] for row in done]
    untouched = median(row[0] for row in seconds)
    speeds = [row[0] / row[1] for row in seconds]
    verdicts = [verdict for level in report.levels for verdict in level.verdicts.values()]
    is_known = len(verdicts) == len(set(config.levels))
    expected = 1 - rows * sum(verdict.saved_seconds_by_all for verdict in verdicts) / untouched
    return GuardFigures(
        method=method,
        rounds=len(done),
        expected_ratio=expected if is_known else None,
        measured_ratio=median(row[2] / row[0] for row in seconds),
        guarded_speed=median(speeds),
        guarded_speeds=speeds,
        notes=list(report.notes),
    )


def tell_guard(figures: list[GuardFigures]) -> None:
    """Print one line a method, expected beside measured and the speed with the guard on, and what it left out."""
    head = ["guard", "expected", "measured", "error", "speed with guard", "rounds"]
    lines = []
    for x in figures:
        expected = "" if x.expected_ratio is None else f"x {x.expected_ratio:.3f}"
        error = "" if x.error is None else f"{x.error:+.1%}"
        lines.append([x.method, expected, f"x {x.measured_ratio:.3f}", error, f"{x.guarded_speed:.3f}", str(x.rounds)])
        for sentence in x.notes:
            note(f"{x.method}: {sentence}")
    if lines:
        print(f"\n{table(head, lines)}")


def _seconds(time: Seconds, clock: Clock) -> float:
    return time.processor if clock.name == "processor" and torch.get_num_threads() == 1 else time.wall
