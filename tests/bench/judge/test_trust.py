"""The figures that say how far the judge can be trusted."""

import json
from typing import Any

import numpy as np
import pytest

from tests.bench.judge import trust
from tests.bench.judge.trust import ABSENT, SEVERAL, agreement, read, table
from tome_core.bench.drawing.method import Method
from tome_core.bench.drawing.models import PictureModel
from tome_core.bench.drawing.sampling import Drawn, Settings
from tome_core.bench.judge import UNSURE
from tome_core.bench.suites import load_suite


def test_clean_renders_are_read_as_what_they_are():
    reading = read("clean", lambda picture: picture, 30)
    assert (reading.right, reading.unsure, reading.wrong) == (1, 0, 0)
    assert sum(reading.colours.values()) == sum(reading.shapes.values()) == 30
    assert all(drawn == seen for drawn, seen in [*reading.colours, *reading.shapes])


def test_what_cannot_be_seen_is_counted_as_that():
    blank = read("blank", np.zeros_like, 6)
    assert {seen for _, seen in blank.shapes} == {UNSURE}
    white = read("white", lambda picture: np.full_like(picture, 250), 6)
    assert {seen for _, seen in white.shapes} == {ABSENT}
    double = read("double", lambda picture: np.tile(picture[::2, ::2], (2, 2, 1)), 6)
    assert {seen for _, seen in double.colours} == {SEVERAL}
    assert double.right == 0


def test_a_table_has_a_column_for_whatever_was_read():
    lines = table(read("white", lambda picture: np.full_like(picture, 250), 6)).splitlines()
    assert lines[0] == "**white**: scenes 0.0% right, 0.0% unsure, 100.0% wrong"
    assert lines[2].endswith("| black | no object |")


class Blank(Method):
    """Draws a blank picture for every prompt."""

    def draw(self, pipeline: Any, cases: Any, settings: Settings) -> Drawn:
        return Drawn(np.full((len(cases), 256, 256, 3), 240, np.uint8), np.zeros((len(cases), 4, 32, 32), np.float32))


@pytest.fixture
def drawn_by_rule(monkeypatch) -> None:
    monkeypatch.setattr(trust, "BASELINE", Blank("untouched"))
    monkeypatch.setattr(PictureModel, "open", lambda self: None)


def labels(**own: Any) -> dict[str, Any]:
    settings = {"steps": 1, "guidance": 3.0, "size": 256}
    return {
        "weights": PictureModel().identity["weights"],
        "settings": settings,
        "labels": {"1000": True, "1001": False},
    } | own


def test_agreement_counts_what_person_and_judge_say_of_the_same_picture(drawn_by_rule, tmp_path):
    counts = agreement(labels(), PictureModel().path, tmp_path, 1)
    assert counts == {"both": 0, "person alone": 1, "judge alone": 0, "neither": 1}
    assert json.loads(json.dumps(counts)) == counts


def test_labels_may_be_of_a_suite(drawn_by_rule, tmp_path):
    first, second, *_ = load_suite("two-colours-apart").cases("held-out", 1, 4)
    given = labels(suite="two-colours-apart", labels={str(first.seed): True, str(second.seed): False})
    counts = agreement(given, PictureModel().path, tmp_path, 1)
    assert sum(counts.values()) == 2
    with pytest.raises(ValueError, match=r"labels must be of seeds of two-colours-apart, got \['7'\]"):
        agreement(given | {"labels": {"7": True}}, PictureModel().path, tmp_path, 1)


def test_labels_of_other_weights_or_unknown_seeds_are_refused(drawn_by_rule, tmp_path):
    with pytest.raises(ValueError, match="checkpoint must be the one that was labelled, abc, got"):
        agreement(labels(weights="abc"), PictureModel().path, tmp_path, 1)
    with pytest.raises(ValueError, match=r"labels must be of seeds from 1000 to 1499, got \['7'\]"):
        agreement(labels(labels={"7": True}), PictureModel().path, tmp_path, 1)
    with pytest.raises(ValueError, match="labels must be of at least one picture, got none"):
        agreement(labels(labels={}), PictureModel().path, tmp_path, 1)
