"""A report in a few lines: what will be done, what was, and why nothing."""

from __future__ import annotations

from tome_core.speed import LevelReport, SpeedConfig, SpeedReport
from tome_core.speed.summary import expectation, result


def report(**settings: object) -> SpeedReport:
    config = SpeedConfig(**settings)  # type: ignore[arg-type]
    levels = (LevelReport(1, 1, 5, 1 in config.levels), LevelReport(2, 2, 5, 2 in config.levels))
    return SpeedReport("UNetModel", config, config.metric, levels)


def test_neutral_settings_are_off_without_more_words():
    assert expectation(report(ratio=0)) == "Off: the model stays untouched."


def test_before_a_run_it_says_where_and_how_much():
    assert expectation(report(levels=(1, 2))) == (
        "Will merge 0.5 of attention at level 1 (5 of 10 blocks), level 2 (5 of 10 blocks)."
    )
    assert expectation(report(start_percent=0.2)).endswith("from 20% to 100% of the run.")


def test_after_a_run_it_says_what_ran_on_how_many_tokens():
    done = report(ratio=0.25, kv_ratio=0.5)
    done.merged_calls = done.untouched_calls = 10
    done.record(1, (64, 64), "attention", 3072)
    done.record(1, (64, 64), "keys", 2048)
    assert result(done).splitlines() == [
        "Merged in 10 of 20 calls of the model.",
        "Level 1 (5 blocks), 4096 tokens: attention on 3072 (-25%), keys on 2048 (-50%)",
    ]


def test_what_has_no_effect_is_said_before_and_after():
    idle = report(ratio=0.9)
    idle.untouched_calls = 4
    note = (
        "Note: ratio 0.9 is above what stride 2x2 allows: at most 0.75 of the tokens merge; "
        "a larger stride allows more."
    )
    assert expectation(idle).splitlines()[1:] == [note]
    assert result(idle).splitlines() == ["Nothing merged in 4 calls of the model.", note]
