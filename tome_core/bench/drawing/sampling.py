"""Pictures from prompts through a diffusers pipeline as it is, or from text rows that were changed by hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...demo.architecture import to_bytes

PIXELS = 8  # pixels a side of one latent pixel


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
def draw(pipeline: Any, prompts: Sequence[str] | Tensor, seeds: Sequence[int], settings: Settings) -> Drawn:
    """Return one picture a prompt, or a row of text rows [B, 77, D], each from the noise of its own seed."""
    given: dict[str, Any] = {"prompt": prompts}
    if isinstance(prompts, Tensor):
        empty = encode_prompts(pipeline, [""])[0].expand_as(prompts)
        given = {"prompt_embeds": prompts, "negative_prompt_embeds": empty}
    generators, noise = _noise(seeds, settings.size)
    latents = pipeline(
        **given,
        latents=noise.to(pipeline.device, pipeline.dtype),
        generator=generators,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        width=settings.size,
        height=settings.size,
        output_type="latent",
    ).images
    scaled = latents.to(pipeline.vae.dtype) / pipeline.vae.config.scaling_factor  # it may be in another type
    return Drawn(to_bytes(pipeline.vae.decode(scaled).sample), latents.float().cpu().numpy())


def _noise(seeds: Sequence[int], size: int) -> tuple[list[torch.Generator], Tensor]:
    """Return a source of noise for each picture, and what it starts from, [B, 4, size / 8, size / 8].

    Both are on the CPU, so that they are the same on every device, and nothing depends on the other pictures.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    shape = (4, size // PIXELS, size // PIXELS)
    return generators, torch.stack([torch.randn(shape, generator=generator) for generator in generators])
