"""Opens the demo model as a diffusers pipeline; nothing is fetched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from ..checkpoints import load_original
from .architecture import CONFIGS

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

CHECKPOINT: Final = Path(__file__).parent / "weights" / "tome-demo.safetensors"
"""The model's one file, in Stable Diffusion 1.5's original key layout, float16."""

DEMO_GUIDANCE: Final = 3.0
"""Guidance scale at which the model's figures are measured."""

DEMO_PROMPTS: Final = (
    "a purple star",
    "a red circle and a blue square",
)
"""Prompts that show what the model can do: one shape, and a pair that was held out of its training."""


def load_demo(
    *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu", checkpoint: Path = CHECKPOINT
) -> StableDiffusionPipeline:
    """Return a `StableDiffusionPipeline` of the demo model, for pictures of 256 x 256 pixels.

    checkpoint: another file of the same architecture, such as one of an own training.

    Raises `CheckpointError` if it is missing or another model's.
    """
    return load_original(checkpoint, CONFIGS, dtype=dtype, device=device)  # type: ignore[return-value]
