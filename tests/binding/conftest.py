"""Narrow pipelines of random weights with CLIP's real tokenizer, in the layouts of SD 1.5 and SDXL."""

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tools.random_checkpoints import narrow_configs, write_original
from tome_core.checkpoints import load_original

OBJECTS = "a cat wearing sunglasses and a dog wearing a hat"
COLOURS = "a white cat and a black dog"


@cache
def narrow(family: str) -> Any:
    """Return a narrow pipeline of a family, one and the same in every test, which must leave it as it was."""
    with tempfile.TemporaryDirectory() as folder:
        path, configs = Path(folder) / f"{family}.safetensors", narrow_configs(family)  # type: ignore[arg-type]
        write_original(path, family, configs)  # type: ignore[arg-type]
        pipe = load_original(path, configs, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(params=["sd15", "sdxl"])
def pipeline(request) -> Any:
    """A pipeline that tests must leave as it was."""
    pipe = narrow(request.param)
    yield pipe
    assert "encode_prompt" not in vars(pipe)


@pytest.fixture
def sd15() -> Any:
    return narrow("sd15")


@pytest.fixture
def sdxl() -> Any:
    return narrow("sdxl")


@pytest.fixture
def encode() -> Callable[..., Tensor]:
    """Return a function from a pipeline and a prompt to its rows [B, 77, D], without guidance."""

    def run(pipe: Any, prompt: str | list[str], **settings: Any) -> Tensor:
        settings = {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": False} | settings
        with torch.no_grad():
            return pipe.encode_prompt(prompt=prompt, **settings)[0]

    return run


@pytest.fixture
def latents() -> Callable[..., Tensor]:
    """Return a function from a pipeline and a prompt to the latents that it draws, always from the same noise."""

    def run(pipe: Any, prompt: str | list[str], **settings: Any) -> Tensor:
        count = 1 if isinstance(prompt, str) else len(prompt)
        count *= settings.get("num_images_per_prompt", 1)
        seeds = settings.pop("seeds", range(count))
        noise = [torch.Generator().manual_seed(seed) for seed in seeds]
        settings = {"num_inference_steps": 2, "width": 64, "height": 64, "output_type": "latent"} | settings
        return pipe(prompt, generator=noise, **settings).images

    return run
