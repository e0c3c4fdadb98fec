"""Pictures side by side: those on which methods disagree, so that a person can judge the judge; or any, to judge by."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from PIL import Image

from ...evaluation.cases import Case
from ...evaluation.quality import Contest, Easel, Entry, Readings, outcome
from ..grid import Heading, draw_sheet

MOST_ROWS: Final = 8


def contact_sheet(contest: Contest, easel: Easel, readings: Mapping[str, Readings], footer: str) -> Image.Image | None:
    """Return a sheet with a row for each case that some methods draw fully right and others do not, or None.

    Without a judge every case counts. Controls are left out. Where there are more than `MOST_ROWS` such cases, the rows
    are spread evenly over them.
    """
    entries = [entry for entry in contest.entries if entry.role != "control"]
    if not readings[entries[0].method.name].scores:
        return _unjudged_sheet(contest, entries, easel, readings, footer)
    scores = [readings[entry.method.name].scores for entry in entries]
    split = [i for i in range(len(contest.cases)) if len({column[i].right for column in scores}) > 1]
    if not split:
        return None
    shown = _spread(split)
    cases = [contest.cases[i] for i in shown]
    alone = [sum(column[i].right for i in split) for column in scores]
    headings = [
        Heading(entry.method.name, (f"fully right on {count} of these {len(split)}",))
        for entry, count in zip(entries, alone, strict=True)
    ]
    captions = [[outcome(column[i]) for column in scores] for i in shown]
    title = f"Judged differently: {len(split)} of {len(contest.cases)} pictures"
    title += f", of which {len(shown)} are shown" if len(shown) < len(split) else ""
    return draw_sheet(title, headings, [case.prompt for case in cases], _load(easel, entries, cases), footer, captions)


def _unjudged_sheet(
    contest: Contest, entries: Sequence[Entry], easel: Easel, readings: Mapping[str, Readings], footer: str
) -> Image.Image:
    """Return a sheet of any cases, with the distance to the untouched picture below each."""
    shown = _spread(range(len(contest.cases)))
    cases = [contest.cases[i] for i in shown]
    distances = [readings[entry.method.name].fidelities for entry in entries]
    captions = [[_told(column[i].psnr) if column else "" for column in distances] for i in shown]
    title = f"Not judged: {len(shown)} of {len(contest.cases)} pictures"
    headings = [Heading(entry.method.name) for entry in entries]
    return draw_sheet(title, headings, [case.prompt for case in cases], _load(easel, entries, cases), footer, captions)


def _load(easel: Easel, entries: Sequence[Entry], cases: Sequence[Case]) -> list[list[Image.Image]]:
    return [[Image.fromarray(easel.load(entry.method, case).pictures[0]) for entry in entries] for case in cases]


def _told(decibels: float) -> str:
    return f"{decibels:.1f} dB" if math.isfinite(decibels) else "equal"


def _spread(places: Sequence[int]) -> list[int]:
    count = min(MOST_ROWS, len(places))
    return [places[row * len(places) // count] for row in range(count)]
