"""The results of a benchmark, as a table to read and as values to store."""

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
    """What one method did.

    Attributes:
        method, probe: the method, and one observed call of it.
        times: one for each round.
        clock: what they were taken with.
        untouched: the result of the untouched model, which is the first.
        ceiling: that of the same method with a merge that costs nothing, if it was asked for.
        overhead_share: how much of a call goes into finding, merging and unmerging tokens, if that was asked for.
        demo: what the same configuration does to pictures of the demo model, if that was asked for.
    """

    method: Merging
    probe: Probe
    times: list[Seconds]
    clock: Clock
    untouched: "MethodTimes | None" = None
    ceiling: "MethodTimes | None" = None
    overhead_share: float | None = None
    demo: DemoFigures | None = None

    @property
    def seconds(self) -> list[float]:
        """The time of each round on the clock that counts."""
        return [self.clock.figure(time) for time in self.times]

    @property
    def ratios(self) -> list[float]:
        """Each round's time over the untouched model's time in that round."""
        first = self.untouched or self
        return [mine / other for mine, other in zip(self.seconds, first.seconds, strict=True)]

    @property
    def time_ratio(self) -> float:
        """The middle one of `ratios`."""
        return median(self.ratios)

    @property
    def is_in_run(self) -> bool:
        """Whether the method merges where in a run the timed call is."""
        return self.method.config.start_percent <= TIMED_AT <= self.method.config.end_percent

    @property
    def share_of_run(self) -> float:
        """The part of a run in which the method merges, 0 to 1."""
        return self.method.config.end_percent - self.method.config.start_percent

    @property
    def run_time_ratio(self) -> float | None:
        """Time of a whole run of evenly spaced steps over the untouched model's, reckoned from a call that merges."""
        share = self.share_of_run
        return 1 - share + share * self.time_ratio if self.is_in_run else None

    @property
    def flop_ratio(self) -> float:
        """Multiply-adds of the call over the untouched model's."""
        return self.probe.flops / (self.untouched or self).probe.flops

    @property
    def share_of_ceiling_gain(self) -> float | None:
        """How much of the time that a free merge saves is really saved; None where it saves none in every round."""
        if self.ceiling is None or max(self.ceiling.ratios) >= 1:
            return None
        return (1 - self.time_ratio) / (1 - self.ceiling.time_ratio)

    @property
    def deviation(self) -> float:
        """Mean over the rows of the output's relative deviation from the untouched model's."""
        first = self.untouched or self
        return relative_deviation(self.probe.output, first.probe.output).mean().item()

    @property
    def merges(self) -> bool:
        """Whether any tokens were merged at all."""
        return self.untouched is not None and self.probe.merges(self.untouched.probe)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able values; a deviation that is not finite is None."""
        ratio = Spread.of(self.ratios)
        return {
            "method": self.method.name,
            "preset": self.method.preset,
            "strength": self.method.strength,
            "config": asdict(self.method.config),
            "time_ratio": self.time_ratio,
            "time_ratio_min": ratio.least,
            "time_ratio_max": ratio.most,
            "run_time_ratio": self.run_time_ratio,
            "seconds": median(self.seconds),
            "seconds_by_round": self.seconds,
            "wall_seconds_by_round": [time.wall for time in self.times],
            "deviation": self.deviation if math.isfinite(self.deviation) else None,
            "demo": None if self.demo is None else asdict(self.demo),
            "merges": self.merges,
            "flop_ratio": self.flop_ratio,
            "ceiling_ratio": None if self.ceiling is None else self.ceiling.flop_ratio,
            "time_ceiling_ratio": None if self.ceiling is None else self.ceiling.time_ratio,
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
    head = ["time", results[0].clock.unit, "ratio", "spread", "operations", "deviation", "peak memory"]
    has_ceilings = any(result.ceiling is not None for result in results)
    head += ["ceiling", "gain reached", "spent on merging"] if has_ceilings else []
    rows = [_times(result)[: len(head)] for result in results]
    if any(result.share_of_run < 1 for result in results):
        head += ["whole run"]
        rows = [[*row, _whole_run(result)] for row, result in zip(rows, results, strict=True)]
    if any(result.demo is not None for result in results):
        head += ["demo PSNR", "demo deviation"]
        rows = [[*row, *_demo(result)] for row, result in zip(rows, results, strict=True)]
    times = table(head, rows)
    levels = {level: max(map(max, parts.values())) for level, parts in results[0].probe.tokens.items()}
    head = ["tokens", *(f"level {level}: {tokens}" for level, tokens in levels.items())]
    return f"{times}\n\n{table(head, [_tokens(result, levels) for result in results])}"


def _times(result: MethodTimes) -> list[str]:
    ratio = Spread.of(result.ratios)
    seconds, memory = f"{median(result.seconds):.3g}", f"{result.probe.peak_bytes / 2**20:.3g} MiB"
    if result.method.kind == UNTOUCHED:
        return [result.method.name, seconds, "1", "", "", "", memory, "", "", ""]
    figures = [f"x {ratio.median:.3f}", f"{ratio.least:.3f} to {ratio.most:.3f}", f"x {result.flop_ratio:.3f}"]
    ceiling = "" if result.ceiling is None else f"x {result.ceiling.time_ratio:.3f}"
    shares = ["" if x is None else f"{x:.1%}" for x in (result.share_of_ceiling_gain, result.overhead_share)]
    return [result.method.name, seconds, *figures, f"{result.deviation:.4f}", memory, ceiling, *shares]


def _whole_run(result: MethodTimes) -> str:
    if result.method.kind == UNTOUCHED:
        return "1"
    return "" if result.run_time_ratio is None else f"x {result.run_time_ratio:.3f}"


def _demo(result: MethodTimes) -> list[str]:
    if result.demo is None or result.method.kind == UNTOUCHED:
        return ["", ""]
    decibels = result.demo.psnr_db
    return ["equal" if decibels is None else f"{decibels:.1f} dB", f"{result.demo.latent_deviation:.4f}"]


def _tokens(result: MethodTimes, levels: dict[int, int]) -> list[str]:
    cells = [_merged_parts(result.probe.tokens[level], tokens) for level, tokens in levels.items()]
    return [result.method.name, *cells]


def _merged_parts(parts: dict[str, set[int]], tokens: int) -> str:
    """Return such as "2048 in attention, mlp", "2048 in every part"; "all" where every part gets every token.

    Keys are named where they are not as many as what asks them.
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
