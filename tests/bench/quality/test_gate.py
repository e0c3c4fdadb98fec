"""The binding gate: what passes, and what is said where nothing passes or nothing was run."""

import numpy as np
import pytest

from tome_core.bench.drawing.sampling import Drawn
from tome_core.bench.methods.rows import SeenRows
from tome_core.bench.quality.gate import PICTURES, TESTS, Gate, GateOutcome, missing_in_gate, run_gate
from tome_core.bench.suites import singles
from tome_core.demo.scene import COLOURS
from training.demo.scene import Scene, Thing, render

SHARES = {"noun row only": 0.62, "end rows only": 0.9, "added row": 0.51}


def outcomes(**changed: float) -> tuple[GateOutcome, ...]:
    shares = SHARES | {name.replace("_", " "): share for name, share in changed.items()}
    return tuple(GateOutcome(test, 210, shares[test.method.name], (0.0, 1.0)) for test in TESTS)


def test_the_thresholds_are_those_of_the_paper_less_a_tenth_or_so():
    least = [(test.method.name, test.least, test.paper) for test in TESTS]
    assert least == [("noun row only", 0.6, 0.696), ("end rows only", 0.6, 0.75), ("added row", 0.5, 0.686)]


def test_at_least_two_hundred_pictures_are_made_of_each_test():
    assert PICTURES >= 200


def test_a_model_passes_with_all_three_tests_and_fails_with_any_one_below():
    assert Gate(outcomes()).passes
    assert Gate(outcomes()).sentence.startswith("This model is a fair bed for merging.")
    for failing in ({"noun_row_only": 0.59}, {"end_rows_only": 0.59}, {"added_row": 0.49}):
        assert not Gate(outcomes(**failing)).passes
        assert Gate(outcomes(**failing)).sentence.startswith("This model is no fair bed for merging.")
    assert "added row 49% (needs 50%)" in Gate(outcomes(added_row=0.49)).sentence


def test_a_gate_that_was_not_run_does_not_pass_and_says_so():
    assert not Gate(()).passes
    assert "the binding gate was not run" in Gate(()).sentence
    assert Gate(()).as_dict() == {"run": False, "passes": False, "sentence": Gate(()).sentence, "tests": []}


def test_a_report_holds_shares_intervals_thresholds_and_the_papers_figures():
    told = Gate(outcomes(added_row=0.4)).as_dict()
    assert (told["run"], told["passes"]) == (True, False)
    assert told["tests"][2] == {
        "test": "added row",
        "pictures": 210,
        "attribute": 0.4,
        "interval": (0.0, 1.0),
        "least": 0.5,
        "paper": 0.686,
        "passes": False,
    }


def draw(colour: str, shape: str) -> np.ndarray:
    return render(Scene((Thing(shape, colour, 0.5, 0.5, 0.25, 0.0, COLOURS[colour]),), (0.95, 0.95, 0.95)), 64)


def test_the_tests_are_drawn_once_and_judged_by_the_colour_alone(runner, monkeypatch):
    """Two thirds of the pictures have the colour that is wanted, always on a star; the rest are purple stars."""
    asked_for = []

    def draw_rows(self, pipeline, cases, settings):
        asked_for.append(self.rows_of)
        colours = [case.wanted[0][0] if case.seed % 3 else "purple" for case in cases]
        pictures = np.stack([draw(colour, "star") for colour in colours])
        return Drawn(pictures, np.zeros((len(cases), 4, 8, 8), np.float32))

    monkeypatch.setattr(SeenRows, "draw", draw_rows)
    assert missing_in_gate(runner, 30) == 90
    found = run_gate(runner, 30)
    drawn = len(asked_for)
    assert run_gate(runner, 30) == found
    assert (missing_in_gate(runner, 30), len(asked_for)) == (0, drawn)
    hits = [bool(case.seed % 3) or case.wanted[0][0] == "purple" for case in singles(30)]
    assert [outcome.share for outcome in found.outcomes] == pytest.approx([np.mean(hits)] * 3)
    assert set(asked_for) == {test.method.rows_of for test in TESTS}
    low, high = found.outcomes[0].interval or (1, 0)
    assert low < np.mean(hits) < high
