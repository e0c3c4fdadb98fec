"""The guard on a UNet: it times a level when a grid first comes, and says what is left out there."""

from collections.abc import Hashable
from dataclasses import dataclass, field

from torch import Tensor

from .block_bench import Surroundings
from .block_timing import time_level
from .config import WHOLE, SpeedConfig
from .guard import LevelTimes, Timings
from .level_report import Grid
from .levels import Level
from .plan_making import Matcher
from .report import SpeedReport
from .sentences import left_out_sentence
from .timing import CannotTimeError

_EVERYTHING = frozenset(("attention", "cross_attention", "mlp", "keys", *WHOLE))
_NOTHING: frozenset[str] = frozenset()


@dataclass
class LevelGuard:
    """What was timed, and what follows from it, for the life of a handle or a clone, by level, grid, device and type.

    Attributes:
        config: what merges.
        report: gets each verdict, and a note where something is left out or cannot be timed.
        levels: those of the model.
        matcher: the matching to time; None for the config's own.
        timings: stands in for measuring; None to measure.
        times: what was measured or given, by level and grid.
    """

    config: SpeedConfig
    report: SpeedReport
    levels: tuple[Level, ...]
    matcher: Matcher | None = None
    timings: Timings | None = None
    times: dict[tuple[int, Grid], LevelTimes] = field(default_factory=dict)
    _left_out: dict[Hashable, frozenset[str]] = field(default_factory=dict)
    _met: set[tuple[int, Grid]] = field(default_factory=set)
    _notes: dict[tuple[int, Grid], str] = field(default_factory=dict)

    def begin(self) -> None:
        """Begin a model call."""
        self._met.clear()

    @property
    def saved_seconds(self) -> float | None:
        """What one row of the call so far should have saved by merging; None where a level could not be timed."""
        verdicts = [self.report.levels[number - 1].verdicts.get(grid) for number, grid in self._met]
        return None if None in verdicts else sum(verdict.saved_seconds for verdict in verdicts if verdict)

    def left_out(
        self,
        number: int,
        x: Tensor,
        text: Tensor | None,
        features: tuple[int, int, int] | None,
        *,
        metric: str | None = None,
    ) -> frozenset[str]:
        """Return the parts of a level that do not merge on the grid of `x` [B, C, height, width], "keys" among them.

        Args:
            number: of the level.
            x: what comes to a transformer of the level; only its shape, device and type count, and not B.
            text: [B, L, D]; only D counts.
            features: channels, height and width of what plans are made from; None for those of `x`.
            metric: where similarity is measured in this call; None for the report's.
        """
        grid, metric = (x.shape[2], x.shape[3]), metric or self.report.metric
        key = (number, grid, str(x.device), x.dtype, metric)
        self._met.add((number, grid))
        if key not in self._left_out:
            try:
                times = self._times(number, grid, x, text, features, metric)
            except CannotTimeError as reason:  # perhaps another time
                self._note_untimed(number, grid, f"it cannot be timed {reason}")
                return _NOTHING
            except Exception as error:  # whatever it is, it must not cost the picture
                self._note_untimed(number, grid, f"its block failed aside with {type(error).__name__}: {error}")
                times = None
            self._left_out[key] = _NOTHING if times is None else self._decide(number, grid, times)
        return self._left_out[key]

    def tell(self, number: int, grid: Grid, report: SpeedReport) -> None:
        """Report what is known of a level on a grid to the report of one run as well."""
        verdict = self.report.levels[number - 1].verdicts.get(grid)
        if verdict is not None:
            report.levels[number - 1].verdicts[grid] = verdict
        if (number, grid) in self._notes:
            report.note(self._notes[number, grid])

    def _times(
        self,
        number: int,
        grid: Grid,
        x: Tensor,
        text: Tensor | None,
        features: tuple[int, int, int] | None,
        metric: str,
    ) -> LevelTimes:
        if self.timings is not None:
            return self.timings(number, grid)
        level = self.levels[number - 1]
        spans = len(level.transformers) if self.config.parts == ("stack",) else len(level.blocks)
        surroundings = Surroundings(
            blocks=len(level.blocks),
            matchings=spans if metric == "block" else 1,
            channels=x.shape[1],
            text_channels=None if text is None else text.shape[-1],
            features=features or (x.shape[1], *grid),
            device=x.device,
            dtype=x.dtype,
        )
        return time_level(level.blocks[0], surroundings, grid, self.config, self.matcher)

    def _decide(self, number: int, grid: Grid, times: LevelTimes) -> frozenset[str]:
        tokens, row = grid[0] * grid[1], self.report.levels[number - 1]
        verdict = times.verdict(tokens)
        if verdict is None:
            self._note_untimed(number, grid, f"at {grid[0]}x{grid[1]} tokens the clock gave no times")
            return _NOTHING
        row.verdicts[grid] = verdict
        self.times[number, grid] = times
        if not verdict.left_out:
            return _NOTHING
        self._note(number, grid, left_out_sentence(times, verdict, grid, row.downsample))
        if verdict.left_out == times.untouched.keys():
            return _EVERYTHING
        return verdict.left_out | ({"keys"} if "attention" in verdict.left_out else _NOTHING)

    def _note_untimed(self, number: int, grid: Grid, reason: str) -> None:
        self._note(number, grid, f"merges without knowing whether that pays, since {reason}")

    def _note(self, number: int, grid: Grid, sentence: str) -> None:
        self._notes[number, grid] = f"level {number}: {sentence}"
        self.report.note(self._notes[number, grid])
