"""Merging methods as the evaluation sees them: what tells their pictures apart, and that they come out alike."""

import pickle
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tome_core.cli.bench import drawing
from tome_core.cli.bench.drawing import drawing_method, try_out
from tome_core.cli.bench.methods import LeftOutError, parse_methods
from tome_core.cli.console import UserError
from tome_core.evaluation.quality import BASELINE, Model
from tome_core.evaluation.sampling import Settings
from tome_core.evaluation.suites import load_suite

SETTINGS = Settings(2, 3.0, 64)
CASES = load_suite("two-colours").cases("seen", 2, 1)


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return Model().open()


def parse(text: str):
    return parse_methods(text, {})[-1]


def latents(text: str, pipeline: Any) -> np.ndarray:
    return drawing_method(parse(text)).draw(pipeline, CASES, SETTINGS).latents


def test_the_untouched_model_is_the_baseline():
    assert drawing_method(parse("untouched")) is BASELINE


def test_spellings_of_one_setting_share_their_pictures_and_other_settings_do_not():
    same = [drawing_method(parse(text)).identity for text in ("ours", "ours:ratio=0.5", "ours:levels=1")]
    assert same[0] == same[1] == same[2]
    others = [drawing_method(parse(text)).identity for text in ("ours:ratio=0.25", "ours:levels=1+2", "tomesd")]
    assert all(other not in [*same, *others[:i]] for i, other in enumerate(others))


@pytest.mark.parametrize("text", ["ours:ratio=0.5,levels=1+2", "tomesd"])
def test_a_method_can_be_sent_to_another_process_and_draws_the_same_there(pipeline, text):
    sent = pickle.loads(pickle.dumps(drawing_method(parse(text))))
    torch.manual_seed(1)
    first = sent.draw(pipeline, CASES, SETTINGS).latents
    torch.manual_seed(2)
    assert np.array_equal(first, latents(text, pipeline))
    assert not np.array_equal(first, latents("untouched", pipeline))


def test_a_neutral_method_draws_the_untouched_pictures(pipeline):
    assert np.array_equal(latents("ours:ratio=0", pipeline), latents("untouched", pipeline))


def test_nothing_is_left_on_the_model_and_the_global_generator_is_as_it_was(pipeline, traces):
    before, state = traces(pipeline.unet), torch.get_rng_state()
    for text in ("ours", "tomesd"):
        latents(text, pipeline)
    assert traces(pipeline.unet) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_a_trial_finds_what_cannot_take_part(pipeline, monkeypatch):
    try_out(parse("ours"), pipeline, CASES[0], SETTINGS)
    with pytest.raises(UserError, match="levels must be among"):
        try_out(parse("ours:levels=6"), pipeline, CASES[0], SETTINGS)
    with pytest.raises(LeftOutError, match="are not for it"):
        try_out(parse("tomesd:levels=2"), pipeline, CASES[0], SETTINGS)
    monkeypatch.setitem(sys.modules, "tomesd", None)
    with pytest.raises(LeftOutError, match="tomesd is not installed"):
        try_out(parse("tomesd"), pipeline, CASES[0], SETTINGS)


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ("ours", []),
        ("ours:start_percent=0.4,end_percent=0.6", []),  # the step that is drawn is not between them
        ("ours:start_percent=0.02,end_percent=0.03", ["no step of a run of 20 is between start_percent 0.02 and "]),
    ],
)
def test_a_trial_tells_what_has_no_effect_on_a_whole_run_and_not_on_the_step_it_draws(pipeline, text, notes):
    told = try_out(parse(text), pipeline, CASES[0], replace(SETTINGS, steps=20))
    assert len(told) == len(notes)
    assert all(sentence.startswith(note) for sentence, note in zip(told, notes, strict=True))


def test_a_peer_that_fails_is_left_out_and_a_failure_of_ours_is_no_reason_to_leave_ours_out(pipeline, monkeypatch):
    def fail(*_):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(drawing, "draw", fail)
    with pytest.raises(LeftOutError, match="it fails on this model and size with RuntimeError: shapes differ"):
        try_out(parse("tomesd"), pipeline, CASES[0], SETTINGS)
    with pytest.raises(RuntimeError, match="shapes differ"):
        try_out(parse("ours"), pipeline, CASES[0], SETTINGS)
