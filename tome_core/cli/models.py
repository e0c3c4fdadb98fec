"""The models that a command can open by name or path."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy, deepcopy
from typing import Any, Final

import torch

from ..checkpoints import load_pipeline
from ..demo import load_demo, untaught_words
from .console import note, waiting

DEMO: Final = "demo"
_AT_ONCE: Final = 4
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


@contextmanager
def one_thread(name: str, device: torch.device) -> Iterator[None]:
    """Inside the block, the demo model runs on one thread of the processor; OMP_NUM_THREADS, where it is set, rules.

    Several threads wait for one another after each of its small operations, and while another program has the
    processor of one of them, all others wait: on a busy machine that takes a hundred times as long as the work. One
    thread also gives the same pictures, bit for bit, whatever the number of processors.
    """
    before = torch.get_num_threads()
    if name == DEMO and device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pictures_at_once(name: str, device: torch.device) -> int:
    """Return how many pictures to draw at a time: several of the demo model, whose pictures take one thread each."""
    return _AT_ONCE if name == DEMO and device.type == "cpu" and torch.get_num_threads() == 1 else 1


def copy_pipeline(pipeline: Any) -> Any:
    """Return a pipeline that can draw in another thread at the same time; only what never changes is shared."""
    twin = copy(pipeline)
    for name in ("unet", "scheduler", "tokenizer"):
        setattr(twin, name, deepcopy(getattr(pipeline, name)))
    return twin


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
