"""An image is the same alone, in any batch, and with prompt and empty prompt together or apart, in either order."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tome_core.speed import SpeedConfig, apply_speed

TEXT_FREE = ["latent", "estimate"]
TOLERANCE = 1e-5  # relative; convolutions add up in another order for another batch size
LEVELS = (1, 2)


def call(unet, inputs: dict[str, Any], rows: list[int], config: SpeedConfig) -> tuple[Tensor, list[Tensor]]:
    """Return the output of a call on some rows, and the slots [B, N] of each level's plan."""
    with apply_speed(unet, config) as handle:
        output = unet(**take(inputs, rows)).sample
        plans = [handle.plan(level.level, grid) for level in handle.report.levels for grid in level.kept]
    return output, [plan.assignment for plan in plans if plan is not None]


def take(inputs: dict[str, Any], rows: list[int]) -> dict[str, Any]:
    pooled = {name: value[rows] for name, value in inputs["added_cond_kwargs"].items()}
    picked = {name: inputs[name][rows] for name in ("sample", "encoder_hidden_states")}
    return {"timestep": inputs["timestep"], "added_cond_kwargs": pooled, **picked}


@pytest.fixture
def guided_inputs(new_inputs) -> dict[str, Any]:
    """Three images with prompts and empty prompts: rows 0 to 2 are unconditional, rows 3 to 5 conditional."""
    inputs = new_inputs(batch=6)
    inputs["sample"] = torch.cat([inputs["sample"][:3]] * 2)
    return inputs


ARRANGEMENTS = {
    "the image alone": [1, 4],
    "prompt first": [4, 1],
    "last of a batch": [0, 1, 3, 4],
    "first of a batch": [1, 2, 4, 5],
    "rows of an image side by side": [2, 5, 1, 4, 0, 3],
    "empty prompt apart": [1],
    "prompt apart": [4],
}


@pytest.mark.parametrize("shape", ["sd15", "sdxl"])
@pytest.mark.parametrize(
    "settings",
    [{"metric": "latent"}, {"metric": "latent", "seed": 5, "parts": "block"}, {"matching": "window"}],
)
def test_an_image_does_not_depend_on_how_it_is_batched(new_unet, guided_inputs, relative_error, shape, settings):
    unet, config = new_unet(shape), SpeedConfig(levels=LEVELS, **settings)
    together, plans_together = call(unet, guided_inputs, [0, 1, 2, 3, 4, 5], config)
    for name, rows in ARRANGEMENTS.items():
        got, plans = call(unet, guided_inputs, rows, config)
        for place, row in enumerate(rows):
            for plan, plan_together in zip(plans, plans_together, strict=True):
                assert torch.equal(plan[place], plan_together[row]), name
            assert relative_error(got[place], together[row]) < TOLERANCE, name


@pytest.mark.parametrize("shape", ["sd15", "sd2", "sdxl"])
@pytest.mark.parametrize("metric", TEXT_FREE)
def test_prompt_and_empty_prompt_merge_alike(new_unet, guided_inputs, shape, metric):
    _, plans = call(new_unet(shape), guided_inputs, [0, 1, 2, 3, 4, 5], SpeedConfig(metric=metric, levels=LEVELS))
    for plan in plans:
        assert torch.equal(plan[:3], plan[3:])
        assert not torch.equal(plan[0], plan[1])


def test_matching_each_blocks_input_merges_prompt_and_empty_prompt_differently(new_unet, guided_inputs, blocks):
    """The price of `metric="block"`, which its documentation names."""
    unet, plans = new_unet(), []
    with apply_speed(unet, SpeedConfig(metric="block")) as handle:
        last = blocks(unet, 1)[-1]
        last.attn1.to_q.register_forward_hook(lambda *_: plans.append(handle.plan(1, (16, 16))))
        unet(**take(guided_inputs, [0, 3]))
    assert not torch.equal(plans[0].assignment[0], plans[0].assignment[1])


@pytest.mark.parametrize("metric", TEXT_FREE)
def test_the_text_does_not_enter_a_plan(new_unet, new_inputs, metric):
    unet, config, plans = new_unet("sdxl"), SpeedConfig(metric=metric, levels=LEVELS), []
    for factor in (1, 100):
        inputs = new_inputs(batch=1)
        inputs["encoder_hidden_states"] *= factor
        inputs["added_cond_kwargs"]["text_embeds"] *= factor
        plans.append(call(unet, inputs, [0], config)[1])
    for one, other in zip(*plans, strict=True):
        assert torch.equal(one, other)


def denoise(unet, inputs: dict[str, Any], calls: list[list[int]], config: SpeedConfig) -> dict[int, Tensor]:
    """Return each row's last output of a run of three steps, whose every step evaluates the rows in these calls."""
    x, outputs = inputs["sample"].clone(), {}
    with apply_speed(unet, config):
        for timestep in (900, 700, 500):
            step = {**inputs, "sample": x, "timestep": torch.tensor(timestep)}
            for rows in calls:
                outputs |= dict(zip(rows, unet(**take(step, rows)).sample, strict=True))
            for uncond in {row % 3 for row in outputs}:
                x[[uncond, uncond + 3]] -= 0.3 * (3 * outputs[uncond + 3] - 2 * outputs[uncond])
    return outputs


@pytest.mark.parametrize("shape", ["sd15", "sdxl"])
@pytest.mark.parametrize(
    "calls",
    [
        [[1, 4]],
        [[4, 1]],
        [[1], [4]],
        [[4], [1]],
        [[0, 1, 3, 4]],
        [[2, 5, 1, 4, 0, 3]],
        [[0, 1, 2], [3, 4, 5]],
        [[5, 4], [1, 2]],
    ],
)
def test_a_run_does_not_depend_on_how_its_steps_are_batched(new_unet, guided_inputs, relative_error, shape, calls):
    unet, config = new_unet(shape), SpeedConfig(metric="estimate", levels=LEVELS)
    together = denoise(unet, guided_inputs, [[0, 1, 2, 3, 4, 5]], config)
    latent = denoise(unet, guided_inputs, calls, SpeedConfig(metric="latent", levels=LEVELS))
    for row, output in denoise(unet, guided_inputs, calls, config).items():
        assert relative_error(output, together[row]) < 10 * TOLERANCE
        assert relative_error(latent[row], together[row]) > 100 * TOLERANCE  # the estimate does decide
