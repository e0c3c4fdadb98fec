"""Unchanged diffusers pipelines, small and random: text tower, UNet, autoencoder and scheduler together."""

import copy
from typing import Any

import numpy
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPAGPipeline, StableDiffusionPipeline
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from tome_core.speed import SpeedConfig, apply_speed

STEPS = 3


@pytest.fixture
def pipeline(new_unet) -> StableDiffusionPipeline:
    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    autoencoder = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
    )
    pipe = StableDiffusionPipeline(
        vae=autoencoder.eval(),
        text_encoder=CLIPTextModel(text).eval(),
        tokenizer=None,  # prompts come as embeddings
        unet=new_unet(sample_size=16),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def prompt(pipe: StableDiffusionPipeline, images: int) -> dict[str, Tensor]:
    tokens = torch.arange(1, 1 + 7 * images).reshape(images, 7)
    with torch.no_grad():
        return {
            "prompt_embeds": pipe.text_encoder(tokens)[0],
            "negative_prompt_embeds": pipe.text_encoder(torch.zeros_like(tokens))[0],
        }


def pictures(
    pipe: StableDiffusionPipeline, seeds: list[int], embeds: dict[str, Tensor], **settings: Any
) -> numpy.ndarray:
    """Return [images, height, width, 3] of floats from 0 to 1."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return pipe(**embeds, generator=generators, num_inference_steps=STEPS, output_type="np", **settings).images


def test_an_image_is_merged_and_a_closed_handle_gives_the_untouched_one_again(pipeline, traces):
    embeds = prompt(pipeline, 1)
    before, untouched = traces(pipeline.unet), pictures(pipeline, [0], embeds)
    with apply_speed(pipeline) as handle:
        merged = pictures(pipeline, [0], embeds)
    assert handle.report.merged_calls == STEPS
    assert handle.report.levels[0].kept == {(16, 16): {"attention": 128}}
    assert 0 < abs(merged - untouched).max() < 0.2
    assert traces(pipeline.unet) == before
    assert (pictures(pipeline, [0], embeds) == untouched).all()


def test_one_seed_gives_one_image_bit_for_bit(pipeline):
    embeds, config = prompt(pipeline, 2), SpeedConfig(levels=(1, 2), seed=4)
    with apply_speed(pipeline, config):
        first = pictures(pipeline, [0, 1], embeds)
        assert (pictures(pipeline, [0, 1], embeds) == first).all()
    with apply_speed(pipeline, config):
        assert (pictures(pipeline, [0, 1], embeds) == first).all()


@pytest.mark.parametrize("metric", ["latent", "estimate"])
def test_an_image_alone_is_the_image_in_a_batch(pipeline, metric):
    embeds = prompt(pipeline, 3)
    with apply_speed(pipeline, SpeedConfig(metric=metric)):
        together = pictures(pipeline, [0, 1, 2], embeds)
        for i in range(3):
            alone = pictures(pipeline, [i], {name: value[i : i + 1] for name, value in embeds.items()})
            assert abs(alone[0] - together[i]).max() < 1e-4


def test_merging_stops_after_the_chosen_part_of_the_run(pipeline):
    with apply_speed(pipeline, SpeedConfig(end_percent=0.5)) as handle:
        pictures(pipeline, [0], prompt(pipeline, 1))
    assert (handle.report.merged_calls, handle.report.untouched_calls) == (1, STEPS - 1)


def test_the_run_is_counted_in_the_timesteps_of_the_pipelines_scheduler(pipeline):
    pipeline.scheduler = DDIMScheduler(num_train_timesteps=100, clip_sample=False, steps_offset=1)
    with apply_speed(pipeline, SpeedConfig(start_percent=0.5)) as handle:
        pictures(pipeline, [0], prompt(pipeline, 1))
    assert (handle.report.merged_calls, handle.report.untouched_calls) == (STEPS - 1, 1)


def test_the_global_random_generator_is_not_moved(pipeline):
    embeds = prompt(pipeline, 1)
    with apply_speed(pipeline, SpeedConfig(seed=1)):
        torch.manual_seed(3)
        state = torch.get_rng_state()
        pictures(pipeline, [0], embeds)
        assert torch.equal(torch.get_rng_state(), state)


def test_another_size_in_between_changes_nothing(pipeline):
    embeds = prompt(pipeline, 1)
    with apply_speed(pipeline):
        first = pictures(pipeline, [0], embeds)
        pictures(pipeline, [0], embeds, height=24, width=48)
        assert (pictures(pipeline, [0], embeds) == first).all()


@pytest.mark.parametrize(
    ("settings", "seed"), [({"refresh": 3}, 0), ({"refresh": 3}, 9), ({"parts": "block"}, 0)], ids=str
)
def test_a_preview_by_another_pipeline_between_two_steps_changes_nothing(pipeline, settings, seed):
    parts = {name: part for name, part in pipeline.components.items() if name != "scheduler"}
    scheduler = copy.deepcopy(pipeline.scheduler)
    preview = StableDiffusionPipeline(**parts, scheduler=scheduler, requires_safety_checker=False)
    preview.set_progress_bar_config(disable=True)
    embeds, other = prompt(pipeline, 1), prompt(pipeline, 2)
    other = {name: value[1:] for name, value in other.items()}
    small, looks = {"num_inference_steps": 2, "output_type": "latent"}, []

    def look(pipe: Any, step: int, timestep: int, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        looks.append(preview(**other, generator=torch.Generator().manual_seed(seed), **small).images)
        return tensors

    def draw(**callback: Any) -> Tensor:
        noise = torch.Generator().manual_seed(0)
        return pipeline(**embeds, generator=noise, num_inference_steps=8, output_type="latent", **callback).images

    with apply_speed(pipeline, SpeedConfig(**settings)) as handle:
        alone = draw()
        assert torch.equal(draw(callback_on_step_end=look), alone)
    assert len(looks) == 8
    assert all(torch.equal(image, looks[0]) for image in looks)
    assert handle.report.merged_calls == 8 + 8 + 16


@pytest.mark.parametrize(
    ("settings", "because"),
    [
        ({"kv_ratio": 0.75}, "keys are those of the queries"),
        ({"kv_downsample": 2}, "keys are those of the queries"),
        ({"proportional": True}, "merged keys count once each"),
    ],
)
def test_perturbed_attention_guidance_keeps_its_own_keys_and_the_report_says_so(pipeline, settings, because):
    pag = StableDiffusionPAGPipeline(
        **pipeline.components, requires_safety_checker=False, pag_applied_layers=["down_blocks.0", "up_blocks.3"]
    )
    pag.set_progress_bar_config(disable=True)
    images = []
    for config in (SpeedConfig(metric="latent"), SpeedConfig(metric="latent", **settings)):
        with apply_speed(pag, config) as handle:
            images.append(pictures(pag, [0], prompt(pag, 1), pag_scale=3.0))
        assert handle.report.levels[0].kept == {(16, 16): {"attention": 128}}
    assert (images[0] == images[1]).all()
    processor = "its attention processor PAGCFGIdentitySelfAttnProcessor2_0 chooses keys of its own"
    assert handle.report.notes == [f"level 1: {because}, {processor}"]
