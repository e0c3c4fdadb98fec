"""The results of a benchmark of speed, as a table to read and as values to store."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from ...metrics import relative_deviation
from ..clock import Clock, Seconds, Spread
from ..drawing.method import UNTOUCHED
from ..methods.merging import Merging
from ..table import table
from .demo_pictures import DemoFigures
from .denoisers import TIMED_AT
from .probe import Probe


@dataclass(frozen=True)
class MethodTimes:
    """What one method did: one observed call, and one time for each round. What was not asked for is None."""

    method: Merging
    probe: Probe
    times: list[Seconds]
    clock: Clock
    untouched: "MethodTimes | None" = None  # the first of all; None for itself
    ceiling: "MethodTimes | None" = None  # of the same method with a merge that costs nothing
    overhead_share: float | None = None  # how much of a call goes into finding, merging and unmerging tokens
    demo: DemoFigures | None = None  # what the same configuration does to pictures of the demo model

    @property
    def _first(self) -> "MethodTimes":
        return self.untouched or self

    @property
    def seconds(self) -> list[float]:
        """The time of each round on the clock that counts."""
        return [self.clock.figure(time) for time in self.times]

    @property
    def ratio(self) -> Spread:
        """Each round's time over the untouched model's time in that round."""
        return Spread.of([mine / other for mine, other in zip(self.seconds, self._first.seconds, strict=True)])

    @property
    def run_time_ratio(self) -> float | None:
        """Time of a whole run of evenly spaced steps over the untouched model's, reckoned from a call that merges.

        None where the method does not merge where in a run the timed call is.
        """
        config = self.method.config
        share = config.end_percent - config.start_percent
        is_in_run = config.start_percent <= TIMED_AT <= config.end_percent
        return 1 - share + share * self.ratio.median if is_in_run else None

    @property
    def flop_ratio(self) -> float:
        """Multiply-adds of the call over the untouched model's."""
        return self.probe.flops / self._first.probe.flops

    @property
    def share_of_ceiling_gain(self) -> float | None:
        """How much of the time that a free merge saves is really saved; None where it saves none in every round."""
        if self.ceiling is None or self.ceiling.ratio.most >= 1:
            return None
        return (1 - self.ratio.median) / (1 - self.ceiling.ratio.median)

    @property
    def deviation(self) -> float:
        """Mean over the rows of the output's relative deviation from the untouched model's."""
        return relative_deviation(self.probe.output, self._first.probe.output).mean().item()

    @property
    def merges(self) -> bool:
        """Whether any tokens were merged at all: whether any part got other tokens than in the untouched model."""
        return self.probe.tokens != self._first.probe.tokens

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able values; a deviation that is not finite is None."""
        return {
            "method": self.method.name,
            "preset": self.method.preset,
            "strength": self.method.strength,
            "config": asdict(self.method.config),
            **self.ratio.as_dict("time_ratio"),
            "run_time_ratio": self.run_time_ratio,
            "seconds": median(self.seconds),
            "seconds_by_round": self.seconds,
            "wall_seconds_by_round": [time.wall for time in self.times],
            "deviation": self.deviation if math.isfinite(self.deviation) else None,
            "demo": None if self.demo is None else asdict(self.demo),
            "merges": self.merges,
            "flop_ratio": self.flop_ratio,
            "ceiling_ratio": None if self.ceiling is None else self.ceiling.flop_ratio,
            "time_ceiling_ratio": None if self.ceiling is None else self.ceiling.ratio.median,
            "share_of_ceiling_gain": self.share_of_ceiling_gain,
            "overhead_share": self.overhead_share,
            "peak_bytes": self.probe.peak_bytes,
            "tokens": [
                {"level": level, **{part: sorted(counts) for part, counts in parts.items()}}
                for level, parts in self.probe.tokens.items()
            ],
        }


def results_table(results: Sequence[MethodTimes]) -> str:
    """Return two tables with one line a method: times and deviations, and how many tokens reach which parts."""
    columns = ["time", results[0].clock.unit, "ratio", "spread", "operations", "deviation", "peak memory"]
    if any(result.ceiling is not None for result in results):
        columns += ["ceiling", "gain reached", "spent on merging"]
    if any((result.method.config.start_percent, result.method.config.end_percent) != (0, 1) for result in results):
        columns += ["whole run"]
    if any(result.demo is not None for result in results):
        columns += ["demo PSNR", "demo deviation"]
    times = [[_cells(result).get(column, "") for column in columns] for result in results]
    levels = {level: max(map(max, parts.values())) for level, parts in results[0].probe.tokens.items()}
    head = ["tokens", *(f"level {level}: {tokens}" for level, tokens in levels.items())]
    tokens = [
        [result.method.name, *(_merged_parts(result.probe.tokens[level], count) for level, count in levels.items())]
        for result in results
    ]
    return f"{table(columns, times)}\n\n{table(head, tokens)}"


def _cells(result: MethodTimes) -> dict[str, str]:
    """Return a method's cells by the heads of their columns; what is unknown has none."""
    cells = {
        "time": result.method.name,
        result.clock.unit: f"{median(result.seconds):.3g}",
        "peak memory": f"{result.probe.peak_bytes / 2**20:.3g} MiB",
    }
    if result.method.kind == UNTOUCHED:
        return cells | {"ratio": "1", "whole run": "1"}
    ratio, ceiling = result.ratio, result.ceiling
    shares = {"gain reached": result.share_of_ceiling_gain, "spent on merging": result.overhead_share}
    ratios = {
        "ratio": ratio.median,
        "operations": result.flop_ratio,
        "ceiling": None if ceiling is None else ceiling.ratio.median,
        "whole run": result.run_time_ratio,
    }
    cells |= {"spread": f"{ratio.least:.3f} to {ratio.most:.3f}", "deviation": f"{result.deviation:.4f}"}
    cells |= {name: f"x {value:.3f}" for name, value in ratios.items() if value is not None}
    cells |= {name: f"{value:.1%}" for name, value in shares.items() if value is not None}
    if result.demo is not None:
        decibels = result.demo.psnr_db
        cells["demo PSNR"] = "equal" if decibels is None else f"{decibels:.1f} dB"
        cells["demo deviation"] = f"{result.demo.latent_deviation:.4f}"
    return cells


def _merged_parts(parts: dict[str, set[int]], tokens: int) -> str:
    """Return such as "2048 in attention, mlp", "2048 in every part"; "all" where every part gets every token.

    Keys are named where they are not as many as the queries.
    """
    names: dict[str, list[str]] = {}
    if parts.get("keys") == parts.get("attention"):
        parts = {part: counts for part, counts in parts.items() if part != "keys"}
    for part, counts in parts.items():
        if counts != {tokens}:
            names.setdefault("/".join(str(count) for count in sorted(counts)), []).append(part)
    cells = (
        f"{counts} in {'every part' if len(found) == len(parts) else ', '.join(found)}"
        for counts, found in names.items()
    )
    return "; ".join(cells) or "all"
