import json
import re

import pytest

from tome_core.speed import LevelReport, SpeedConfig, SpeedReport


def new_report(**settings) -> SpeedReport:
    config = SpeedConfig(**settings)
    levels = (LevelReport(1, 2, 10, chosen=True), LevelReport(2, 4, 60, chosen=False))
    return SpeedReport("UNet", config, config.metric, levels)


def test_a_report_says_for_each_level_how_many_tokens_go_in_and_come_out():
    report = new_report(ratio=0.5)
    report.record(1, (5, 7), "attention", 18)
    assert "5x7" in str(report)
    assert "35 -> 18" in str(report)
    assert report.as_dict()["levels"][0]["grids"] == [
        {"height": 5, "width": 7, "tokens_before": 35, "tokens_after": 18, "tokens_by_part": {"attention": 18}}
    ]
    assert report.notes == []


def test_before_the_first_call_a_report_says_that_there_was_none():
    assert "no call yet" in str(new_report())
    assert "not chosen" in str(new_report())


def test_every_size_that_was_met_is_kept():
    report = new_report()
    report.record(1, (8, 8), "attention", 32)
    report.record(1, (16, 16), "attention", 128)
    assert [grid["tokens_after"] for grid in report.as_dict()["levels"][0]["grids"]] == [32, 128]


def test_a_sentence_is_kept_once():
    report = new_report()
    report.note("once")
    report.note("once")
    assert report.notes == ["once"]


@pytest.mark.parametrize(
    ("settings", "grid", "kept", "sentence"),
    [
        (
            {"ratio": 0.75, "matching": "window"},
            (5, 7),
            17,
            "level 1: ratio 0.75 of 5x7 .* 26 to merge, .* lets 18 merge",
        ),
        (
            {"ratio": 0.1},
            (1, 9),
            9,
            "level 1: ratio 0.1 of 1x9 tokens is less than one token, nothing merges; .* effect",
        ),
        (
            {"ratio": 0.5},
            (1, 9),
            9,
            "level 1: 1x9 tokens hold no 2x2 cell, nothing merges; a smaller stride has an effect",
        ),
    ],
)
def test_less_than_was_asked_for_is_said_with_its_reason(settings, grid, kept, sentence):
    report = new_report(**settings)
    report.record(1, grid, "attention", kept)
    assert len(report.notes) == 1
    assert re.match(sentence, report.notes[0])


def test_a_ratio_above_the_cap_is_said_with_what_is_really_merged():
    assert "stride 2x2 allows: at most 0.75 of the tokens merge" in new_report(ratio=0.9).notes[0]
    assert new_report(ratio=0.75).notes == []


def test_a_seed_that_draws_nothing_is_said():
    assert "seed has no effect" in new_report(seed=1, matching="window").notes[0]
    assert new_report(seed=1).notes == []


def test_a_report_can_be_stored_as_json():
    report = new_report(ratio=0.9, seed=3)
    report.record(1, (8, 8), "attention", 16)
    stored = json.loads(json.dumps(report.as_dict()))
    assert stored["config"]["ratio"] == 0.9
    row = {"level": 2, "downsample": 4, "blocks": 60, "chosen": False, "grids": [], "verdicts": [], "savings": []}
    assert stored["levels"][1] == row
    assert stored["notes"] == report.notes
