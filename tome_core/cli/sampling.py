"""Pictures from a pipeline, each from its own seed, with the latents they come from and the time they took."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..bench.clock import Seconds
from ..demo import DEMO_GUIDANCE
from .console import note
from .models import DEMO, default_size, warn_of_words


@dataclass(frozen=True)
class Request:
    """What to draw. Sizes in pixels; `guidance` None is the pipeline's default; `negative_prompt` may be empty."""

    prompt: str
    steps: int
    width: int
    height: int
    guidance: float | None = None
    negative_prompt: str = ""

    @property
    def summary(self) -> str:
        """What a sheet says of how its pictures were drawn."""
        return f"{self.width} x {self.height} pixels · {self.steps} steps"


def new_request(pipeline: Any, arguments: argparse.Namespace, text: str) -> Request:
    """Return what the arguments of `add_request` ask of a pipeline; note what of them has no effect on it.

    text: what the model reads of the prompt.
    """
    width, height = arguments.size or default_size(pipeline.unet)
    guidance = arguments.guidance
    if arguments.model == DEMO:
        guidance = DEMO_GUIDANCE if guidance is None else guidance
        warn_of_words([text])
        if arguments.prediction_type is not None:
            note("--prediction-type has no effect on the demo model, whose own is known; it has one on a checkpoint")
    count, longest = len(pipeline.tokenizer(text).input_ids), pipeline.tokenizer.model_max_length
    if count > longest:
        note(f"the prompt has {count - 2} tokens and the model reads {longest - 2}: its end has no effect")
    if arguments.negative_prompt and guidance is not None and guidance <= 1:
        note(f"the negative prompt has no effect at guidance {guidance:g}; above 1 it has one")
    return Request(arguments.prompt, arguments.steps, width, height, guidance, arguments.negative_prompt)


@dataclass(frozen=True)
class Drawn:
    """Pictures, their final latents [B, 4, height / 8, width / 8] in float32 on the CPU, and the time for all."""

    pictures: list[Image.Image]
    latents: Tensor
    seconds: Seconds


def draw(
    pipeline: Any, request: Request, seeds: list[int], clock: Callable[[], Seconds], on_step: Callable[[], object]
) -> Drawn:
    """Return one picture a seed, all from one call. A seed gives its picture alone and in any batch.

    Noise is drawn on the CPU, so that a seed means the same on every device; batches of different sizes agree within
    the tolerance of their convolutions. `on_step` is called after every sampling step.
    """
    latents: Tensor = torch.empty(0)

    def keep(pipe: Any, step: int, timestep: int, values: dict[str, Any]) -> dict[str, Any]:
        nonlocal latents
        latents = values["latents"]
        on_step()
        return values

    start = clock()
    pictures = pipeline(
        request.prompt,
        negative_prompt=request.negative_prompt or None,
        num_inference_steps=request.steps,
        num_images_per_prompt=len(seeds),
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        width=request.width,
        height=request.height,
        callback_on_step_end=keep,
        **({} if request.guidance is None else {"guidance_scale": request.guidance}),
    ).images
    return Drawn(pictures, latents.float().cpu(), clock() - start)
