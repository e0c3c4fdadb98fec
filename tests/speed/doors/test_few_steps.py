"""Runs of one to eight steps without guidance, as distilled models have them (LCM, Lightning, Turbo)."""

from dataclasses import asdict
from typing import Any

import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, LCMScheduler
from torch import Tensor

from tome_core.presets import speed_preset
from tome_core.speed import SpeedConfig, SpeedReport, apply_speed

SCHEDULERS = {
    "LCM": lambda: LCMScheduler(beta_schedule="scaled_linear"),
    "Lightning": lambda: EulerDiscreteScheduler(timestep_spacing="trailing", beta_schedule="scaled_linear"),
    "Turbo": lambda: EulerAncestralDiscreteScheduler(timestep_spacing="trailing", beta_schedule="scaled_linear"),
}


def sample(
    unet, inputs: dict[str, Any], name: str, steps: int, rows: tuple[int, ...] = (0, 1), **settings: Any
) -> tuple[Tensor, list[bool], SpeedReport]:
    """Return the last latents, whether each step saw the noisy latent alone, and the report of a run."""
    pipe = type("Pipeline", (), {"unet": unet, "scheduler": SCHEDULERS[name]()})()
    pipe.scheduler.set_timesteps(steps)
    generators = [torch.Generator().manual_seed(row) for row in rows]
    x, text = inputs["sample"][list(rows)] * pipe.scheduler.init_noise_sigma, inputs["encoder_hidden_states"]
    sees_latent = []
    with apply_speed(pipe, SpeedConfig(**settings)) as handle:
        for t in pipe.scheduler.timesteps:
            blind = handle.report.blind_calls
            output = unet(pipe.scheduler.scale_model_input(x, t), t, text[list(rows)]).sample
            sees_latent.append(handle.report.blind_calls > blind)
            x = pipe.scheduler.step(output, t, x, generator=generators).prev_sample
    return x, sees_latent, handle.report


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_estimate_decides_from_the_third_step_on_also_where_a_step_replaces_the_noise(
    new_unet, new_inputs, name, steps
):
    unet, inputs = new_unet(), new_inputs()
    x, sees_latent, report = sample(unet, inputs, name, steps, metric="estimate")
    assert x.isfinite().all()
    assert report.merged_calls == steps
    assert sees_latent == [True, True, False, False][:steps]
    few = "metric estimate sees the noisy latent alone in runs of fewer than three steps"
    assert report.notes == ([few] if steps < 3 else [])


@pytest.mark.parametrize("name", SCHEDULERS)
def test_an_image_of_a_few_steps_is_the_same_alone_and_in_a_batch(new_unet, new_inputs, relative_error, name):
    unet, inputs = new_unet(), new_inputs()
    settings = {"metric": "estimate", "refresh": 3}
    together, _, _ = sample(unet, inputs, name, 4, **settings)
    for row in (0, 1):
        alone, _, _ = sample(unet, inputs, name, 4, rows=(row,), **settings)
        assert relative_error(alone[0], together[row]) < 1e-4


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_refresh_keeps_no_plan_over_steps_that_change_much(new_unet, new_inputs, steps):
    unet, inputs = new_unet(), new_inputs()
    x, _, report = sample(unet, inputs, "Lightning", steps, metric="latent", refresh=4)
    expected, _, _ = sample(unet, inputs, "Lightning", steps, metric="latent")
    assert torch.equal(x, expected)
    assert report.notes == [f"refresh has no effect in a run of {steps} steps: each changes the picture too much"]


def test_refresh_has_an_effect_in_a_run_of_more_steps(new_unet, new_inputs):
    unet, inputs = new_unet(), new_inputs()
    x, _, report = sample(unet, inputs, "Lightning", 12, refresh=4)
    expected, _, _ = sample(unet, inputs, "Lightning", 12)
    assert not torch.equal(x, expected)
    assert report.notes == []


def test_a_part_of_the_run_without_a_step_merges_nothing_and_says_so(new_unet, new_inputs):
    unet, inputs = new_unet(), new_inputs()
    for settings, steps, merged in (
        ({"start_percent": 0.1}, 1, 0),
        ({"start_percent": 0.1, "end_percent": 0.2}, 4, 0),
        ({"start_percent": 0.2, "end_percent": 0.6}, 4, 2),
        ({"end_percent": 0.1}, 1, 1),
    ):
        _, _, report = sample(unet, inputs, "Lightning", steps, metric="latent", **settings)
        assert (report.merged_calls, report.untouched_calls) == (merged, steps - merged)
        start, end = settings.get("start_percent", 0), settings.get("end_percent", 1)
        sentence = f"no step of a run of {steps} is between start_percent {start} and end_percent {end}"
        assert [note.partition(": ")[0] for note in report.notes] == ([] if merged else [sentence])


@pytest.mark.parametrize(("steps", "merged"), [(1, 0), (2, 1), (4, 2), (8, 5)])
@pytest.mark.parametrize("word", ["gentle", "balanced", "fast"])
def test_a_preset_leaves_the_steps_alone_that_decide_the_composition(new_unet, new_inputs, word, steps, merged):
    _, _, report = sample(new_unet(), new_inputs(), "Lightning", steps, **asdict(speed_preset(word)))
    assert (report.merged_calls, report.untouched_calls) == (merged, steps - merged)
    assert any("nothing merges in it" in sentence for sentence in report.notes) == (merged == 0)
