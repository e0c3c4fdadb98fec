"""The same pictures under several settings, untouched first: drawn in turn, measured, and laid out on one sheet."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import cycle
from statistics import mean, median
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..bench.clock import Clock, Seconds
from ..bench.drawing.method import UNTOUCHED
from ..bench.methods.merging import merge
from ..bench.sheet import Heading, draw_sheet
from ..bench.table import table
from ..metrics import psnr, relative_deviation
from ..speed import SpeedConfig, SpeedReport
from .console import DONE, INTERRUPTED, print_error, progress
from .models import copy_pipeline
from .sampling import Drawn, Request, draw

Row = tuple[Request, int]  # what to draw, and its seed
Cell = tuple[SpeedConfig, Request, int]


class LevelTokens(NamedTuple):
    """How many tokens a level has, the fewest that a part runs on, and ", 256 keys" where they are fewer."""

    before: int
    after: int
    keys: str = ""

    @classmethod
    def of(cls, before: int, kept: dict[str, int]) -> "LevelTokens":
        """Return them from the tokens that a report has for each part, "keys" among them."""
        after = min((count for part, count in kept.items() if part != "keys"), default=before)
        keys = kept.get("keys", before)
        return cls(before, after, f", {keys} keys" if keys < kept.get("attention", before) else "")


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
        firsts = {level.level: next(iter(level.kept.items())) for level in self.report.levels if level.kept}
        return {level: LevelTokens.of(math.prod(grid), kept) for level, (grid, kept) in firsts.items()}


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
        print_error(f"interrupted after {self.rows} of {self.asked} rows; the sheet and the figures are of those")
        return INTERRUPTED

    def as_dict(self) -> dict[str, Any]:
        """Return as JSON-able values each column's median times, tokens and mean deviation from the untouched one."""
        return {"clock": self.clock.name, "columns": [self._figures(column) for column in self.columns]}

    def table(self) -> str:
        """Return the figures to be read in a terminal."""
        tokens = [self._tokens(column) for column in self.columns]
        levels = sorted({level for found in tokens for level in found})
        head = ["", self.clock.unit, "time", *(f"tokens at level {level}" for level in levels)]
        lines = []
        for figures, found in zip(map(self._figures, self.columns), tokens, strict=True):
            time, decibels = f"x {figures['time_ratio']:.2f}", figures["psnr_db"]
            away = ["equal" if decibels is None else f"{decibels:.1f} dB", f"{figures['latent_deviation']:.4f}"]
            if not lines:  # the untouched column
                time, away = "1", ["", ""]
            cells = [_cell(found[level]) if level in found else "-" for level in levels]
            lines.append([figures["name"], f"{figures['seconds_per_picture']:.2f}", time, *cells, *away])
        return table([*head, "PSNR", "latent deviation"], lines)

    def sheet(self, title: str, labels: Sequence[str], footer: str) -> Image.Image:
        """Return every picture on one sheet, one label a row."""
        headings = [Heading(column.name, self._caption(column)) for column in self.columns]
        rows = [[column.drawn[row].pictures[0] for column in self.columns] for row in range(self.rows)]
        return draw_sheet(title, headings, labels, rows, footer)

    def _figures(self, column: Column) -> dict[str, Any]:
        pairs = list(zip(column.drawn, self.columns[0].drawn, strict=True))
        figure = self.clock.figure
        decibels = mean(psnr(_pixels(drawn), _pixels(first), peak=255).item() for drawn, first in pairs)
        deviation = mean(relative_deviation(drawn.latents, first.latents).item() for drawn, first in pairs)
        return {
            "name": column.name,
            "ratio": column.config.ratio,
            "seconds_per_picture": self._seconds(column),
            "wall_seconds_per_picture": median(drawn.seconds.wall for drawn in column.drawn),
            "time_ratio": median(figure(drawn.seconds) / figure(first.seconds) for drawn, first in pairs),
            "psnr_db": decibels if math.isfinite(decibels) else None,  # None: equal to the untouched picture
            "latent_deviation": deviation,
            "report": column.report.as_dict(),
        }

    def _seconds(self, column: Column) -> float:
        return median(self.clock.figure(drawn.seconds) for drawn in column.drawn)

    def _caption(self, column: Column) -> tuple[str, ...]:
        tokens = self._tokens(column)
        lines = [
            (f"level {level}: " if len(tokens) > 1 else "")
            + (f"{found.after} of " if found.after < found.before else "")
            + f"{found.before} tokens{found.keys}"
            for level, found in tokens.items()
        ]
        return (*lines, f"{self._seconds(column):.2f} {self.clock.unit} a picture")

    def _tokens(self, column: Column) -> dict[int, LevelTokens]:
        """Return a column's tokens; an untouched model reports none, so the others say what it has."""
        if not column.config.is_neutral:
            return column.tokens
        met = {level: found.before for other in self.columns for level, found in other.tokens.items()}
        return {level: LevelTokens(before, before) for level, before in sorted(met.items())}


def _cell(tokens: LevelTokens) -> str:
    """Return such as "1024 -> 512, 256 keys"."""
    merged = f" -> {tokens.after}" if tokens.after < tokens.before else ""
    return f"{tokens.before}{merged}{tokens.keys}"


def _pixels(drawn: Drawn) -> Tensor:
    return torch.from_numpy(np.array(drawn.pictures[0]))[None]


def compare(
    pipeline: Any, configs: Sequence[tuple[str, SpeedConfig]], rows: Sequence[Row], threads: int = 1
) -> Comparison:
    """Draw every row untouched and under every named config, row by row; `threads` pictures at a time.

    An interrupt ends the drawing and keeps the whole rows; before the first of them is whole it is raised. Raises
    `UserError` for a config that the model does not take, before any picture.
    """
    columns = []
    for name, config in ((UNTOUCHED, SpeedConfig(ratio=0.0)), *configs):
        with merge(pipeline, config) as handle:
            columns.append(Column(name, config, handle.report))
    cells = [(column.config, request, seed) for request, seed in rows for column in columns]
    clock = Clock(pipeline.device)
    with progress(1 + sum(request.steps for _, request, _ in cells), "drawing") as bar:
        draw(pipeline, replace(rows[0][0], steps=1), [rows[0][1]], clock, bar.update)  # first calls are slow
        if threads == 1:
            pictures = (_draw_cell(pipeline, cell, clock, bar.update) for cell in cells)
        else:
            pictures = _draw_in_threads(pipeline, cells, clock, bar.update, threads)
        try:
            for column, (drawn, report) in zip(cycle(columns), pictures, strict=False):
                column.drawn.append(drawn)
                column.report = report
        except KeyboardInterrupt:
            if not columns[-1].drawn:
                raise
    for column in columns:
        del column.drawn[len(columns[-1].drawn) :]
    return Comparison(columns, clock, len(rows))


def _draw_cell(
    pipeline: Any, cell: Cell, clock: Callable[[], Seconds], on_step: Callable[[], object]
) -> tuple[Drawn, SpeedReport]:
    config, request, seed = cell
    with merge(pipeline, config) as handle:
        return draw(pipeline, request, [seed], clock, on_step), handle.report


def _draw_in_threads(
    pipeline: Any, cells: Sequence[Cell], clock: Clock, on_step: Callable[[], object], threads: int
) -> Iterator[tuple[Drawn, SpeedReport]]:
    """Yield each cell's picture and report in their order, each drawn by one of several threads with its own model."""
    own, stopped, counting = threading.local(), threading.Event(), threading.Lock()

    def start() -> None:
        torch.set_num_threads(1)
        own.pipeline = copy_pipeline(pipeline)

    def own_clock() -> Seconds:
        return clock()._replace(processor=time.thread_time())  # of this thread alone

    def count_step() -> None:
        if stopped.is_set():
            raise CancelledError
        with counting:
            on_step()

    def draw_one(cell: Cell) -> tuple[Drawn, SpeedReport]:
        return _draw_cell(own.pipeline, cell, own_clock, count_step)

    pool = ThreadPoolExecutor(threads, initializer=start)
    try:
        for future in [pool.submit(draw_one, cell) for cell in cells]:
            while not wait([future], timeout=0.2).done:  # without a timeout Windows would not hear Ctrl-C
                pass
            yield future.result()
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)  # waits for the step that each thread is in
