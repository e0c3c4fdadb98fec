"""Checkpoints of true size, written, opened with the network blocked, run once. Slow, so they are asked for by name:

    TOME_FULL_SIZE=sd15,sd2,sdxl python -m pytest tests/checkpoints/test_full_size.py

Each takes under a minute of one core. Disk, and memory with the mapped file: 2.1 and 6.7 GB for sd15, 2.6 and 8.1 GB
for sd2 (both opened in float32), 7 and 12.5 GB for sdxl (in bfloat16).
"""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tools.random_checkpoints import random_weight, write_original
from tome_core.checkpoints import load_pipeline
from tome_core.checkpoints.configuration import read_configs
from tome_core.checkpoints.family import Family

WANTED = os.environ.get("TOME_FULL_SIZE", "").split(",")
LATENT_SIZE = 16  # one call at 128 pixels
STEM = "model.diffusion_model.input_blocks.0.0.weight"


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
def test_a_checkpoint_of_true_size_opens_and_denoises(tmp_path: Path, family: Family):
    if family not in WANTED:
        pytest.skip(f"TOME_FULL_SIZE does not name {family}")
    path = tmp_path / f"{family}.safetensors"
    try:
        write_original(path, family, read_configs(family))
        dtype = torch.bfloat16 if family == "sdxl" else torch.float32
        pipeline: Any = load_pipeline(path, dtype=dtype)
        stem = pipeline.unet.conv_in.weight
        assert torch.equal(stem, random_weight(STEM, tuple(stem.shape), seed=0).half().to(dtype))
        noise = _denoise_once(pipeline)
        assert noise.shape == (1, 4, LATENT_SIZE, LATENT_SIZE)
        assert noise.isfinite().all()
        assert noise.float().std() > 0
    finally:
        path.unlink(missing_ok=True)


@torch.no_grad()
def _denoise_once(pipeline: Any) -> torch.Tensor:
    """Return the denoiser's answer [1, 4, h, w] to noise and a prompt that went through the text encoders."""
    latent = torch.randn(1, 4, LATENT_SIZE, LATENT_SIZE, generator=torch.Generator().manual_seed(0))
    rows, _, *pooled = pipeline.encode_prompt(
        "a red cat", device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    added = {"text_embeds": pooled[0], "time_ids": torch.tensor([[128, 128, 0, 0, 128, 128]])} if pooled else None
    return pipeline.unet(latent.to(pipeline.unet.dtype), 500, rows, added_cond_kwargs=added).sample
