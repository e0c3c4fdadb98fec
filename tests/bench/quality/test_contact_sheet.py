"""Which pictures come on the sheet, with which words."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tome_core.bench.clock import Spread
from tome_core.bench.drawing.method import BASELINE, Method
from tome_core.bench.drawing.sampling import Drawn
from tome_core.bench.judge import Score
from tome_core.bench.methods.controls import CONTROLS
from tome_core.bench.quality import contact_sheet as contact
from tome_core.bench.quality.comparison import Entry, QualityReport
from tome_core.bench.quality.contact_sheet import MOST_ROWS, contact_sheet
from tome_core.bench.quality.figures import Fidelity, Readings
from tome_core.bench.suites import Case

RIGHT, MISSING = Score(("right", "right"), ()), Score(("right", "missing"), ())
ENTRIES = (Entry(BASELINE, "baseline"), Entry(CONTROLS[1], "control"), Entry(Method("ours"), "method"))


class Pictures:
    """A runner whose pictures are grey by seed."""

    def load(self, method: Method, cases: Sequence[Case]) -> list[Drawn]:
        latents = np.zeros((1, 4, 8, 8), np.float32)
        return [Drawn(np.full((1, 64, 64, 3), case.seed, np.uint8), latents) for case in cases]


def sheet_of(cases: Sequence[Case], entries: Sequence[Entry], readings: Sequence[Readings]) -> object:
    about = {"suite": {"name": "s", "split": None, "prompts": 1, "seeds": 1}, "settings": {"size": 64, "steps": 1}}
    setting = about | {"model": {"weights": "0123456789"}}
    report = QualityReport(setting, entries, cases, readings, [Spread(1, 1, 1)] * len(entries), None)
    return contact_sheet(report, Pictures())  # type: ignore[arg-type]


@pytest.fixture
def drawn(monkeypatch) -> list[tuple[Any, ...]]:
    """What is asked of the sheet."""
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(contact, "draw_sheet", lambda *given: asked.append(given) or "sheet")
    return asked


def sheet(untouched: Sequence[Score], ours: Sequence[Score]) -> object:
    cases = [Case((("red", "square"), ("blue", "star")), f"prompt {seed}", seed) for seed in range(len(ours))]
    control = Readings([MISSING] * len(ours), [])
    return sheet_of(cases, ENTRIES, [Readings(untouched, []), control, Readings(ours, [])])


def test_rows_are_the_pictures_that_one_draws_right_and_another_does_not(drawn):
    assert sheet([RIGHT, RIGHT, MISSING, MISSING], [RIGHT, MISSING, RIGHT, MISSING]) == "sheet"
    title, headings, labels, pictures, footer, captions = drawn[0]
    assert title == "Judged differently: 2 of 4 pictures"
    assert [heading.name for heading in headings] == ["untouched", "ours"]
    assert headings[0].lines == ("fully right on 1 of these 2",)
    assert labels == ["prompt 1", "prompt 2"]
    assert [[np.array(picture)[0, 0, 0] for picture in row] for row in pictures] == [[1, 1], [2, 2]]
    assert captions == [["right", "missing"], ["missing", "right"]]
    assert footer == "s: 1 prompts x 1 seeds, 64 pixels, 1 steps, weights 01234567"


def test_where_controls_alone_differ_there_is_no_sheet(drawn):
    assert sheet([RIGHT, MISSING], [RIGHT, MISSING]) is None
    assert drawn == []


def test_too_many_rows_are_thinned_out_evenly_and_counted(drawn):
    sheet([RIGHT] * 40, [MISSING] * 40)
    title, _, labels, *_ = drawn[0]
    assert title == "Judged differently: 40 of 40 pictures, of which 8 are shown"
    assert labels == [f"prompt {5 * row}" for row in range(MOST_ROWS)]


def test_without_a_judge_every_case_may_be_shown_with_its_distance(drawn):
    cases = [Case((), f"prompt {seed}", seed) for seed in range(10)]
    fidelities = [Fidelity(20.0 + seed if seed else float("inf"), 0.9, 0.1, None) for seed in range(10)]
    readings = [Readings([], []), Readings([], fidelities)]
    assert sheet_of(cases, (ENTRIES[0], ENTRIES[2]), readings) == "sheet"
    title, headings, labels, pictures, _, captions = drawn[0]
    assert title == "Not judged: 8 of 10 pictures"
    assert [heading.name for heading in headings] == ["untouched", "ours"]
    assert labels[:3] == ["prompt 0", "prompt 1", "prompt 2"]
    assert captions[:2] == [["", "equal"], ["", "21.0 dB"]]
    assert np.array(pictures[1][1])[0, 0, 0] == 1
