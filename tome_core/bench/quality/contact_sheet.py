"""Pictures side by side: those on which methods disagree, so that a person can judge the judge; or any, to judge by."""

import math
from typing import Final

from PIL import Image

from ..drawing.runner import Runner
from ..sheet import Heading, draw_sheet
from .comparison import QualityReport
from .figures import Readings

MOST_ROWS: Final = 8


def contact_sheet(report: QualityReport, runner: Runner) -> Image.Image | None:
    """Return a sheet with a row for each case that some methods draw fully right and others do not, or None.

    Without a judge every case counts, and the distance to the untouched picture stands below each. Controls are left
    out. Where there are more than `MOST_ROWS` such cases, the rows are spread evenly over them.
    """
    columns = [i for i, entry in enumerate(report.entries) if entry.role != "control"]
    readings, is_judged = [report.readings[i] for i in columns], bool(report.readings[0].scores)
    cases = range(len(report.cases))
    if is_judged:
        cases = [i for i in cases if len({column.scores[i].right for column in readings}) > 1]
    count = min(MOST_ROWS, len(cases))
    rows = [cases[row * len(cases) // count] for row in range(count)]
    if not rows:
        return None
    title = f"Not judged: {len(rows)} of {len(report.cases)} pictures"
    lines: list[tuple[str, ...]] = [()] * len(columns)
    if is_judged:
        title = f"Judged differently: {len(cases)} of {len(report.cases)} pictures"
        title += f", of which {len(rows)} are shown" if len(rows) < len(cases) else ""
        counts = [sum(column.scores[i].right for i in cases) for column in readings]
        lines = [(f"fully right on {count} of these {len(cases)}",) for count in counts]
    methods = [report.entries[i].method for i in columns]
    drawn = [  # no more pictures are held at once
        {row: found for row, found in enumerate(runner.load(method, report.cases)) if row in rows} for method in methods
    ]
    return draw_sheet(
        title,
        [Heading(method.name, line) for method, line in zip(methods, lines, strict=True)],
        [report.cases[row].prompt for row in rows],
        [[Image.fromarray(column[row].pictures[0]) for column in drawn] for row in rows],
        report.title,
        [[_caption(column, row) for column in readings] for row in rows],
    )


def _caption(readings: Readings, row: int) -> str:
    """Return the judge's word, or else the distance to the untouched picture; nothing below that picture itself."""
    if readings.scores:
        return readings.scores[row].word
    if not readings.fidelities:
        return ""
    decibels = readings.fidelities[row].psnr
    return f"{decibels:.1f} dB" if math.isfinite(decibels) else "equal"
