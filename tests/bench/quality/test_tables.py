"""What a reader of the tables sees."""

import pytest

from tome_core.bench.clock import Spread
from tome_core.bench.judge import Score
from tome_core.bench.quality.figures import Fidelity, MethodFigures, Readings, method_figures
from tome_core.bench.quality.gate import TESTS, Gate, GateOutcome
from tome_core.bench.quality.tables import markdown

PASSED = Gate(tuple(GateOutcome(test, 210, 0.9, None) for test in TESTS))
FAILED = Gate(tuple(GateOutcome(test, 210, 0.3, None) for test in TESTS))
SCORES = [Score(("right", "right"), ()), Score(("leaked", "right"), ()), Score(("swapped", "swapped"), ())]


@pytest.fixture
def results(new_cases) -> list[MethodFigures]:
    untouched = Readings([SCORES[i % 3] for i in range(12)], [])
    merged = Readings([SCORES[i % 2] for i in range(12)], [Fidelity(30.0, 0.9, 0.1, 0.01)] * 12)
    return [
        method_figures("untouched", "baseline", new_cases(12), untouched, untouched, Spread(1, 1, 1)),
        method_figures("ours", "method", new_cases(12), merged, untouched, Spread(0.9, 0.8, 1.0)),
    ]


def cells(text: str, table: int, name: str) -> dict[str, str]:
    """Return a method's cells of one of the tables by their heads."""
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.split("\n\n")[table].splitlines()
    ]
    return dict(zip(head, next(row for row in rows if row[0] == name), strict=True))


def test_every_table_is_markdown_with_as_many_cells_in_each_line(results):
    for table in markdown(results, PASSED).split("\n\n")[:3]:
        lines = table.splitlines()
        assert len({(len(line), line.count("|")) for line in lines}) == 1
        assert set(lines[1]) <= set("|-: ")


def test_figures_stand_with_their_intervals_and_what_they_are_of(results):
    judged = cells(markdown(results, PASSED), 0, "untouched")
    assert judged["fully right"].startswith("33.3% (")
    assert judged["binding error given presence"].endswith(") of 12")
    assert (judged["leaked"], judged["swapped"], judged["wrong"]) == ("33.3%", "33.3%", "0.0%")
    changed = cells(markdown(results, PASSED), 1, "ours")
    assert changed["fully right"].startswith("+16.7 (")
    near = cells(markdown(results, PASSED), 2, "ours")
    assert list(near.values()) == ["ours", "30.0 dB", "0.9000", "0.1000", "0.0100", "x 0.900 (0.800 to 1.000)"]


@pytest.mark.parametrize("gate", [FAILED, Gate(())], ids=["failed", "not run"])
def test_every_binding_figure_is_marked_where_the_gate_does_not_pass(results, gate):
    text = markdown(results, gate)
    for name in ("untouched", "ours"):
        judged = cells(text, 0, name)
        for kind in ("binding error given presence", "leaked", "swapped", "wrong"):
            assert judged[kind].endswith(" †")
        assert "†" not in judged["fully right"] + judged["present"] + judged["missing"]
    assert cells(text, 1, "ours")["binding error given presence"].endswith(" †")
    assert text.split("\n\n")[-1] == f"† {gate.sentence}."


def test_nothing_is_marked_where_the_gate_passes_or_nothing_can_be_bound_wrongly(results):
    assert "†" not in markdown(results, PASSED) + markdown(results, None)
    assert markdown(results, PASSED).endswith(f"{PASSED.sentence}.")
    assert "fair bed" not in markdown(results, None)


def test_without_a_judge_there_is_one_table(new_cases):
    readings = Readings([], [Fidelity(30.0, 0.9, 0.1, 0.01)] * 4)
    names = (("untouched", "baseline"), ("ours", "method"))
    results = [method_figures(n, role, new_cases(4), readings, readings, Spread(1, 1, 1)) for n, role in names]
    text = markdown(results, None)
    assert text.startswith("| distance")
    assert "\n\n" not in text
