"""The two controls on the demo model, small and in few steps: what they do is decided by hooks and prompts alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tome_core.bench.drawing.method import BASELINE
from tome_core.bench.drawing.sampling import Settings
from tome_core.bench.methods.controls import CONTROLS
from tome_core.bench.suites import Case, load_suite

POSITIVE, NEGATIVE = CONTROLS
ONE_STEP, THREE_STEPS = Settings(1, 3.0, 64), Settings(3, 3.0, 64)


@pytest.fixture
def case() -> Case:
    return load_suite("two-colours").cases("held-out", 1, 1)[0]


def latents(method, pipeline: Any, cases: list[Case], settings: Settings) -> np.ndarray:
    return method.draw(pipeline, cases, settings).latents


def test_the_controls_have_the_names_that_reports_use():
    assert [control.name for control in CONTROLS] == ["positive-control", "negative-control"]


def test_with_one_phrase_the_positive_control_is_the_untouched_picture(pipeline):
    cases = load_suite("single").cases("seen", 2, 1)
    drawn = latents(POSITIVE, pipeline, cases, THREE_STEPS)
    np.testing.assert_allclose(drawn, latents(BASELINE, pipeline, cases, THREE_STEPS), atol=1e-4)


def test_while_regions_are_apart_none_knows_what_another_one_says(pipeline, case):
    """One step is at the noisy end of the schedule."""
    other = replace(case, phrases=(case.phrases[0], "a black star"))
    first, second = (latents(POSITIVE, pipeline, [given], ONE_STEP)[0] for given in (case, other))
    width = first.shape[-1] // 2
    np.testing.assert_allclose(first[..., :width], second[..., :width], atol=1e-5)
    assert np.abs(first[..., width:] - second[..., width:]).max() > 1e-2


def test_each_region_is_drawn_under_its_own_phrase(pipeline, case):
    swapped = replace(case, phrases=case.phrases[::-1])
    first, second = (latents(POSITIVE, pipeline, [given], THREE_STEPS)[0] for given in (case, swapped))
    width = first.shape[-1] // 2
    for half in (slice(None, width), slice(width, None)):
        assert np.abs(first[..., half] - second[..., half]).max() > 1e-2


def test_the_prompt_as_a_whole_has_no_part_in_the_positive_control(pipeline, case):
    silent = replace(case, prompt="a green cross")
    drawn = [latents(POSITIVE, pipeline, [given], THREE_STEPS) for given in (case, silent)]
    np.testing.assert_allclose(*drawn, atol=1e-5)


def test_three_phrases_share_a_picture_whose_width_three_does_not_divide(pipeline):
    cases = load_suite("three-objects").cases("seen", 2, 1)
    assert latents(POSITIVE, pipeline, cases, THREE_STEPS).shape == (2, 4, 8, 8)


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_a_picture_does_not_depend_on_its_neighbours_in_the_batch(pipeline, control):
    cases = load_suite("two-colours").cases("seen", 3, 1)
    together = latents(control, pipeline, cases, THREE_STEPS)
    np.testing.assert_allclose(together[1:2], latents(control, pipeline, cases[1:2], THREE_STEPS), atol=1e-3)


def test_the_negative_control_draws_the_shuffled_prompt_from_the_same_noise(pipeline, case):
    asked = replace(case, prompt=case.shuffled)
    drawn = latents(NEGATIVE, pipeline, [case], THREE_STEPS)
    assert np.array_equal(drawn, latents(BASELINE, pipeline, [asked], THREE_STEPS))
    assert not np.array_equal(drawn, latents(BASELINE, pipeline, [case], THREE_STEPS))


def test_nothing_is_left_on_the_model_also_after_an_exception(
    pipeline, case, traces: Callable[[nn.Module], list[Any]], monkeypatch
):
    before, inside = traces(pipeline.unet), []

    def fail(*_, **__):
        inside.append(traces(pipeline.unet) != before)
        raise RuntimeError("half-way")

    POSITIVE.draw(pipeline, [case], ONE_STEP)
    assert traces(pipeline.unet) == before
    monkeypatch.setattr(pipeline.scheduler, "step", fail)
    with pytest.raises(RuntimeError, match="half-way"):
        POSITIVE.draw(pipeline, [case], ONE_STEP)
    assert inside == [True]
    assert traces(pipeline.unet) == before


def test_cases_without_a_common_number_of_phrases_are_refused(pipeline, case):
    for cases in ([replace(case, phrases=())], [case, replace(case, phrases=case.phrases[:1])]):
        with pytest.raises(ValueError, match="phrases must be equally many in each case and at least one"):
            POSITIVE.draw(pipeline, cases, ONE_STEP)


def test_drawing_leaves_torchs_global_generator_alone(pipeline, case):
    state = torch.get_rng_state()
    for method in (BASELINE, *CONTROLS):
        method.draw(pipeline, [case], ONE_STEP)
    assert torch.equal(torch.get_rng_state(), state)
