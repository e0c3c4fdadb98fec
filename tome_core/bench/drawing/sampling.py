"""Pictures from prompts through a diffusers pipeline as it is, or from text rows that were changed by hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...demo.architecture import to_bytes

PIXELS = 8
"""Pixels a side of one latent pixel."""


@dataclass(frozen=True)
class Settings:
    """How pictures are made: denoising steps, guidance scale, side in pixels."""

    steps: int
    guidance: float
    size: int


@dataclass(frozen=True)
class Drawn:
    """Pictures [B, S, S, 3], and the final latents that they were decoded from, float32 [B, 4, S / 8, S / 8]."""

    pictures: NDArray[np.uint8]
    latents: NDArray[np.float32]


@torch.no_grad()
def encode_prompts(pipeline: Any, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return the rows [B, 77, D] and the token ids [B, 77] of prompts, both on the pipeline's device."""
    tokens = pipeline.tokenizer(list(prompts), padding="max_length", truncation=True, return_tensors="pt").input_ids
    tokens = tokens.to(pipeline.device)
    return pipeline.text_encoder(tokens)[0], tokens


@torch.no_grad()
def draw(pipeline: Any, prompts: Sequence[str], seeds: Sequence[int], settings: Settings) -> Drawn:
    """Return one picture a prompt, each from the noise of its own seed, drawn by the pipeline's own `__call__`."""
    generators, noise = _noise(seeds, settings.size)
    latents = pipeline(
        list(prompts),
        latents=noise.to(pipeline.device, pipeline.dtype),
        generator=generators,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        width=settings.size,
        height=settings.size,
        output_type="latent",
    ).images
    return _decode(pipeline, latents)


@torch.no_grad()
def draw_from_rows(pipeline: Any, rows: Tensor, keep: Tensor, seeds: Sequence[int], settings: Settings) -> Drawn:
    """Return pictures denoised under rows [B, 77, D] of which `keep`, bool [B, 77], are seen.

    diffusers' pipelines take prompts, but no mask over their rows. Classifier-free guidance against the empty prompt,
    which keeps all of its rows.
    """
    empty, _ = encode_prompts(pipeline, [""])
    context = torch.cat([empty.expand_as(rows), rows])
    mask = torch.cat([torch.ones_like(keep), keep])
    pipeline.scheduler.set_timesteps(settings.steps)
    generators, noise = _noise(seeds, settings.size)
    latents = noise.to(rows) * pipeline.scheduler.init_noise_sigma
    own = pipeline.prepare_extra_step_kwargs(generators, 0.0)  # what this sampler takes for noise of its own
    for t in pipeline.scheduler.timesteps:
        both = pipeline.scheduler.scale_model_input(torch.cat([latents] * 2), t)
        uncond, cond = pipeline.unet(both, t, context, encoder_attention_mask=mask).sample.chunk(2)
        guided = uncond + settings.guidance * (cond - uncond)
        latents = pipeline.scheduler.step(guided, t, latents, **own).prev_sample
    return _decode(pipeline, latents)


def _noise(seeds: Sequence[int], size: int) -> tuple[list[torch.Generator], Tensor]:
    """Return a source of noise for each picture, and what it starts from, [B, 4, size / 8, size / 8].

    Both are on the CPU, so that they are the same on every device, and nothing depends on the other pictures.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    shape = (4, size // PIXELS, size // PIXELS)
    return generators, torch.stack([torch.randn(shape, generator=generator) for generator in generators])


def _decode(pipeline: Any, latents: Tensor) -> Drawn:
    scaled = latents.to(pipeline.vae.dtype) / pipeline.vae.config.scaling_factor  # it may be in another type
    pictures = to_bytes(pipeline.vae.decode(scaled).sample)
    return Drawn(pictures, latents.float().cpu().numpy())
