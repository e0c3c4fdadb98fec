"""Pictures side by side: those on which methods disagree, so that a person can judge the judge; or any, to judge by."""

import math
from collections.abc import Sequence
from typing import Final

from PIL import Image

from ..drawing.runner import Runner
from ..sheet import Heading, draw_sheet
from .figures import Readings
from .report import Entry, QualityReport

MOST_ROWS: Final = 8


def contact_sheet(report: QualityReport, runner: Runner) -> Image.Image | None:
    """Return a sheet with a row for each case that some methods draw fully right and others do not, or None.

    Without a judge every case counts, and the distance to the untouched picture stands below each. Controls are left
    out. Where there are more than `MOST_ROWS` such cases, the rows are spread evenly over them.
    """
    columns = [
        (entry, readings)
        for entry, readings in zip(report.entries, report.readings, strict=True)
        if entry.role != "control"
    ]
    total = len(report.cases)
    if not report.readings[0].scores:
        rows = _spread(range(total))
        headings = [Heading(entry.method.name) for entry, _ in columns]
        captions = [[_distance(readings, row) for _, readings in columns] for row in rows]
        return _sheet(f"Not judged: {len(rows)} of {total} pictures", headings, captions, rows, columns, report, runner)
    split = [i for i in range(total) if len({readings.scores[i].right for _, readings in columns}) > 1]
    if not split:
        return None
    rows = _spread(split)
    counts = [sum(readings.scores[i].right for i in split) for _, readings in columns]
    headings = [
        Heading(entry.method.name, (f"fully right on {count} of these {len(split)}",))
        for (entry, _), count in zip(columns, counts, strict=True)
    ]
    captions = [[readings.scores[row].word for _, readings in columns] for row in rows]
    title = f"Judged differently: {len(split)} of {total} pictures"
    title += f", of which {len(rows)} are shown" if len(rows) < len(split) else ""
    return _sheet(title, headings, captions, rows, columns, report, runner)


def _sheet(
    title: str,
    headings: Sequence[Heading],
    captions: Sequence[Sequence[str]],
    rows: Sequence[int],
    columns: Sequence[tuple[Entry, Readings]],
    report: QualityReport,
    runner: Runner,
) -> Image.Image:
    drawn = [list(runner.load(entry.method, report.cases)) for entry, _ in columns]
    pictures = [[Image.fromarray(column[row].pictures[0]) for column in drawn] for row in rows]
    return draw_sheet(title, headings, [report.cases[row].prompt for row in rows], pictures, report.title, captions)


def _distance(readings: Readings, row: int) -> str:
    if not readings.fidelities:
        return ""
    decibels = readings.fidelities[row].psnr
    return f"{decibels:.1f} dB" if math.isfinite(decibels) else "equal"


def _spread(rows: Sequence[int]) -> list[int]:
    count = min(MOST_ROWS, len(rows))
    return [rows[row * len(rows) // count] for row in range(count)]
