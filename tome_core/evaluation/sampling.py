"""Pictures from text rows that were changed by hand: diffusers' pipelines take prompts, but no mask over their rows."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..demo.pixels import to_bytes


@torch.no_grad()
def encode_prompts(pipeline: Any, prompts: list[str]) -> tuple[Tensor, Tensor]:
    """Return the rows [B, 77, D] and the token ids [B, 77] of prompts, both on the pipeline's device."""
    tokens = pipeline.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    tokens = tokens.to(pipeline.device)
    return pipeline.text_encoder(tokens)[0], tokens


@torch.no_grad()
def sample(
    pipeline: Any, rows: Tensor, keep: Tensor, seeds: list[int], *, steps: int, guidance: float, size: int
) -> NDArray[np.uint8]:
    """Return pictures [B, size, size, 3] denoised under rows [B, 77, D] of which `keep`, bool [B, 77], are seen.

    Classifier-free guidance against the empty prompt, which keeps all of its rows. Each picture's noise comes from
    its own seed alone, drawn on the CPU, so that it is the same on every device. size in pixels.
    """
    empty, _ = encode_prompts(pipeline, [""])
    context = torch.cat([empty.expand_as(rows), rows])
    mask = torch.cat([torch.ones_like(keep), keep])
    shape = (4, size // 8, size // 8)
    noise = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    pipeline.scheduler.set_timesteps(steps)
    latents = noise.to(rows) * pipeline.scheduler.init_noise_sigma
    for t in pipeline.scheduler.timesteps:
        both = pipeline.scheduler.scale_model_input(torch.cat([latents] * 2), t)
        uncond, cond = pipeline.unet(both, t, context, encoder_attention_mask=mask).sample.chunk(2)
        latents = pipeline.scheduler.step(uncond + guidance * (cond - uncond), t, latents).prev_sample
    return to_bytes(pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample)
