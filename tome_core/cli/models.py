"""The models that a command can open by name or path."""

from typing import Any, Final

import torch

from ..checkpoints import load_pipeline
from ..demo import load_demo, untaught_words
from .console import note, waiting

DEMO: Final = "demo"
PIXELS: Final = 8
"""Pixels a side of one place in the latent, in every family that opens here."""


def open_pipeline(name: str, *, dtype: torch.dtype, device: torch.device, prediction_type: str | None = None) -> Any:
    """Return the pipeline of the demo model or of a checkpoint's path, without a progress bar of its own.

    `prediction_type` is for a checkpoint; the demo model's is known.
    Raises `CheckpointError` and `UnsupportedModelError` as `load_pipeline` does.
    """
    with waiting(f"opening {name}"):
        if name == DEMO:
            pipeline: Any = load_demo(dtype=dtype, device=device)
        else:
            pipeline = load_pipeline(name, dtype=dtype, device=device, prediction_type=prediction_type)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def default_size(unet: Any) -> tuple[int, int]:
    """Return the width and height in pixels that a denoiser was made for."""
    side = unet.config.sample_size * PIXELS
    return side, side


def warn_of_words(prompts: list[str]) -> None:
    """Name the words that the demo model was not taught, in a note."""
    words = list(dict.fromkeys(word for prompt in prompts for word in untaught_words(prompt)))
    if words:
        named = ", ".join(repr(word) for word in words)
        note(f"the demo model was not taught {named}; it knows coloured shapes, such as 'a red square'")


def warn_of_length(pipeline: Any, prompt: str) -> None:
    """Say in a note that the end of a prompt is cut off, if it is."""
    longest = pipeline.tokenizer.model_max_length
    count = len(pipeline.tokenizer(prompt).input_ids)
    if count > longest:
        note(f"the prompt has {count - 2} tokens and the model reads {longest - 2}: its end has no effect")
