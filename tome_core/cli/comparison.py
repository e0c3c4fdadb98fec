"""The same pictures under several settings, untouched first: drawn in turn, measured, and laid out on one sheet."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import cycle
from queue import SimpleQueue
from statistics import median
from threading import Event, Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..bench.clock import Clock, Seconds
from ..bench.sheet import Heading, draw_sheet
from ..bench.table import table
from ..metrics import psnr, relative_deviation
from ..speed import SpeedConfig, SpeedReport
from .console import DONE, INTERRUPTED, complain, progress
from .models import copy_pipeline
from .presets import UNTOUCHED
from .sampling import Drawn, Request, draw
from .settings import merge

Row = tuple[Request, int]  # what to draw, and its seed
Cell = tuple[SpeedConfig, Request, int]


class LevelTokens(NamedTuple):
    """How many tokens a level has, the fewest that a part runs on, and the keys where they are fewer than queries."""

    before: int
    after: int
    keys: int | None = None

    @classmethod
    def of(cls, before: int, kept: dict[str, int]) -> "LevelTokens":
        """Return them from the tokens that a report has for each part, "keys" among them."""
        after = min((count for part, count in kept.items() if part != "keys"), default=before)
        keys = kept.get("keys", before)
        return cls(before, after, keys if keys < kept.get("attention", before) else None)

    @property
    def keys_text(self) -> str:
        """Such as ", 256 keys"; empty where keys are as many as what asks them."""
        return "" if self.keys is None else f", {self.keys} keys"


@dataclass
class Column:
    """One setting and what came of it, row by row; `report` is of the last row."""

    name: str
    config: SpeedConfig
    report: SpeedReport
    drawn: list[Drawn] = field(default_factory=list)

    @property
    def tokens(self) -> dict[int, LevelTokens]:
        """Level -> its tokens, of the levels that were met."""
        grids = {level.level: next(iter(level.kept.items()), None) for level in self.report.levels}
        return {
            level: LevelTokens.of(grid[0][0] * grid[0][1], grid[1]) for level, grid in grids.items() if grid is not None
        }


@dataclass
class Comparison:
    """Columns of pictures of which the first is untouched, the clock that timed them, and how many rows were asked for.

    Rows that an interrupt cut off are in no column.
    """

    columns: list[Column]
    clock: Clock
    asked: int

    @property
    def rows(self) -> int:
        """How many rows are drawn."""
        return len(self.columns[0].drawn)

    def conclude(self) -> int:
        """Return the exit code; of an interrupted comparison, say how much of it there is."""
        if self.rows == self.asked:
            return DONE
        complain(f"interrupted after {self.rows} of {self.asked} rows; the sheet and the figures are of those")
        return INTERRUPTED

    def as_dict(self) -> dict[str, Any]:
        """Return as JSON-able values each column's time, tokens and mean deviation from the untouched one."""
        return {"clock": self.clock.name, "columns": [self._figures(column) for column in self.columns]}

    def notes(self) -> list[str]:
        """Return what the merged columns' reports say beside figures, each sentence once."""
        return list(dict.fromkeys(sentence for column in self.columns[1:] for sentence in column.report.notes))

    def table(self) -> str:
        """Return the figures to be read in a terminal."""
        levels = sorted({level for column in self.columns for level in self._tokens(column)})
        head = ["", self.clock.unit, "time", *(f"tokens at level {level}" for level in levels)]
        lines = [self._table_row(column, levels) for column in self.columns]
        return table([*head, "PSNR", "latent deviation"], lines)

    def sheet(self, title: str, labels: Sequence[str], footer: str) -> Image.Image:
        """Return every picture on one sheet, one label a row."""
        headings = [Heading(column.name, self._caption(column)) for column in self.columns]
        rows = [[column.drawn[row].pictures[0] for column in self.columns] for row in range(self.rows)]
        return draw_sheet(title, headings, labels, rows, footer)

    def seconds(self, column: Column) -> float:
        """Return the median time of a picture, on the clock that counts."""
        return median(self.clock.figure(drawn.seconds) for drawn in column.drawn)

    def time_ratio(self, column: Column) -> float:
        """Return the median over the rows of time over the untouched picture's time."""
        pairs = zip(column.drawn, self.columns[0].drawn, strict=True)
        return median(self.clock.figure(drawn.seconds) / self.clock.figure(first.seconds) for drawn, first in pairs)

    def _figures(self, column: Column) -> dict[str, Any]:
        decibels, deviation = _deviations(column, self.columns[0])
        return {
            "name": column.name,
            "ratio": column.config.ratio,
            "seconds_per_picture": self.seconds(column),
            "wall_seconds_per_picture": median(drawn.seconds.wall for drawn in column.drawn),
            "time_ratio": self.time_ratio(column),
            "psnr_db": decibels if math.isfinite(decibels) else None,  # None: equal to the untouched picture
            "latent_deviation": deviation,
            "report": column.report.as_dict(),
        }

    def _table_row(self, column: Column, levels: list[int]) -> list[str]:
        decibels, deviation = _deviations(column, self.columns[0])
        tokens = [self._tokens(column).get(level) for level in levels]
        cells = ["-" if found is None else _cell(found) for found in tokens]
        away = [f"{decibels:.1f} dB" if math.isfinite(decibels) else "equal", f"{deviation:.4f}"]
        is_first = column is self.columns[0]
        timing = [f"{self.seconds(column):.2f}", "1" if is_first else f"x {self.time_ratio(column):.2f}"]
        return [column.name, *timing, *cells, *(["", ""] if is_first else away)]

    def _caption(self, column: Column) -> tuple[str, ...]:
        tokens = self._tokens(column)
        lines = [
            (f"level {level}: " if len(tokens) > 1 else "")
            + (f"{found.after} of " if found.after < found.before else "")
            + f"{found.before} tokens{found.keys_text}"
            for level, found in tokens.items()
        ]
        return (*lines, f"{self.seconds(column):.2f} {self.clock.unit} a picture")

    def _tokens(self, column: Column) -> dict[int, LevelTokens]:
        """Return a column's tokens; an untouched model reports none, so the others say what it has."""
        if not column.config.is_neutral:
            return column.tokens
        met = {level: found.before for other in self.columns for level, found in other.tokens.items()}
        return {level: LevelTokens(before, before) for level, before in sorted(met.items())}


def _cell(tokens: LevelTokens) -> str:
    """Return such as "1024 -> 512, 256 keys"."""
    merged = f" -> {tokens.after}" if tokens.after < tokens.before else ""
    return f"{tokens.before}{merged}{tokens.keys_text}"


def name_of(config: SpeedConfig) -> str:
    """Return what to call a config beside a picture."""
    if config.is_neutral:
        return UNTOUCHED
    if config.ratio > 0 or not config.has_own_keys:
        return f"ratio {config.ratio:g}"
    return f"keys by {config.kv_downsample}" if config.kv_ratio is None else f"key ratio {config.kv_ratio:g}"


def compare(
    pipeline: Any, configs: Sequence[tuple[str, SpeedConfig]], rows: Sequence[Row], threads: int = 1
) -> Comparison:
    """Draw every row untouched and under every named config, row by row; `threads` pictures at a time.

    An interrupt ends the drawing and keeps the whole rows; before the first of them is whole it is raised. Raises
    `UserError` for a config that the model does not take, before any picture.
    """
    columns = [_new_column(pipeline, name, config) for name, config in ((UNTOUCHED, SpeedConfig(ratio=0.0)), *configs)]
    cells = [(column.config, request, seed) for request, seed in rows for column in columns]
    clock = Clock(pipeline.device) if threads == 1 else _ThreadClock(pipeline.device)
    with progress(1 + sum(request.steps for _, request, _ in cells), "drawing") as bar:
        draw(pipeline, rows[0][0].shortened(), [rows[0][1]], clock, bar.update)  # first calls are slow
        cells_drawn = _draw_cells(pipeline, cells, clock, bar.update, threads)
        try:
            for column, (drawn, report) in zip(cycle(columns), cells_drawn, strict=False):
                column.drawn.append(drawn)
                column.report = report
        except KeyboardInterrupt:
            if not columns[-1].drawn:
                raise
    whole = len(columns[-1].drawn)
    for column in columns:
        del column.drawn[whole:]
    return Comparison(columns, clock, len(rows))


class _ThreadClock(Clock):
    """The clock of one thread among several: on a CPU, the processor time of the thread that reads it."""

    def __call__(self) -> Seconds:
        return super().__call__()._replace(processor=time.thread_time())


def _draw_cells(
    pipeline: Any, cells: Sequence[Cell], clock: Clock, on_step: Callable[[], object], threads: int
) -> Iterator[tuple[Drawn, SpeedReport]]:
    """Yield each cell's picture and report in their order, each of several threads with a denoiser of its own."""
    if threads == 1:
        yield from (_draw_cell(pipeline, cell, clock, on_step) for cell in cells)
        return
    copies: SimpleQueue[Any] = SimpleQueue()
    for _ in range(min(threads, len(cells))):
        copies.put(copy_pipeline(pipeline))
    stopped, counting = Event(), Lock()

    def count_step() -> None:
        if stopped.is_set():
            raise CancelledError
        with counting:
            on_step()

    def draw_one(cell: Cell) -> tuple[Drawn, SpeedReport]:
        own = copies.get()
        try:
            return _draw_cell(own, cell, clock, count_step)
        finally:
            copies.put(own)

    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        for future in [pool.submit(draw_one, cell) for cell in cells]:
            while not wait([future], timeout=0.2).done:  # without a timeout Windows would not hear Ctrl-C
                pass
            yield future.result()
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)  # waits for the step that each thread is in


def _draw_cell(pipeline: Any, cell: Cell, clock: Clock, on_step: Callable[[], object]) -> tuple[Drawn, SpeedReport]:
    config, request, seed = cell
    with merge(pipeline, config) as handle:
        return draw(pipeline, request, [seed], clock, on_step), handle.report


def _new_column(pipeline: Any, name: str, config: SpeedConfig) -> Column:
    with merge(pipeline, config) as handle:
        return Column(name, config, handle.report)


def _deviations(column: Column, untouched: Column) -> tuple[float, float]:
    """Return the mean PSNR in dB and the mean relative deviation of the latents."""
    pairs = list(zip(column.drawn, untouched.drawn, strict=True))
    decibels = [psnr(_pixels(drawn), _pixels(first), peak=255) for drawn, first in pairs]
    deviations = [relative_deviation(drawn.latents, first.latents) for drawn, first in pairs]
    return torch.cat(decibels).mean().item(), torch.cat(deviations).mean().item()


def _pixels(drawn: Drawn) -> Tensor:
    return torch.from_numpy(np.stack([np.array(picture) for picture in drawn.pictures]))
