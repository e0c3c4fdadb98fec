"""Small random UNets in the shapes of SD 1.5, SD 2 and SDXL, and what is needed to call and to inspect them.

A test that reads the notes of a bare UNet names another metric than the default, whose first note is about the noise
schedule that such a model lacks.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from tome_core.speed.layouts import read_layout

TEXT_LENGTH, TEXT_WIDTH, POOLED_WIDTH = 7, 16, 16

_SD15 = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (16, 16, 32, 32),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": 4,
}
_SD2 = {**_SD15, "use_linear_projection": True, "attention_head_dim": (4, 4, 8, 8)}
_SDXL = {
    **_SD2,
    "block_out_channels": (16, 16, 32),
    "attention_head_dim": (4, 4, 8),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 3),
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + POOLED_WIDTH,
}
SHAPES = {"sd15": _SD15, "sd2": _SD2, "sdxl": _SDXL}


@pytest.fixture
def new_unet() -> Callable[..., UNet2DConditionModel]:
    """Return a function from a shape ("sd15", "sd2", "sdxl") and changed settings to a random UNet, always the same."""

    def build(shape: str = "sd15", **changes: Any) -> UNet2DConditionModel:
        torch.manual_seed(0)
        unet = UNet2DConditionModel(**{**SHAPES[shape], **changes})  # type: ignore[arg-type]
        return unet.eval().requires_grad_(False)

    return build


@pytest.fixture
def new_inputs() -> Callable[..., dict[str, Any]]:
    """Return a function to the keyword arguments of one UNet call, random but always the same."""

    def build(batch: int = 2, size: tuple[int, int] = (16, 16), dtype: torch.dtype = torch.float32) -> dict[str, Any]:
        random = torch.Generator().manual_seed(1)
        return {
            "sample": torch.randn(batch, 4, *size, generator=random).to(dtype),
            "timestep": torch.tensor(500),
            "encoder_hidden_states": torch.randn(batch, TEXT_LENGTH, TEXT_WIDTH, generator=random).to(dtype),
            "added_cond_kwargs": {
                "text_embeds": torch.randn(batch, POOLED_WIDTH, generator=random).to(dtype),
                "time_ids": torch.full((batch, 6), 128.0, dtype=dtype),
            },
        }

    return build


@pytest.fixture
def blocks() -> Callable[[nn.Module, int], list[Any]]:
    """Return a function from a UNet and a level to its transformer blocks, as they run."""
    return lambda unet, level: [unet.get_submodule(block.path) for block in read_layout(unet).blocks_of(level)]


@pytest.fixture
def stacks() -> Callable[[nn.Module, int], list[Any]]:
    """Return a function from a UNet and a level to the transformers that hold its blocks, as they run."""
    return lambda unet, level: [unet.get_submodule(stack.path) for stack in read_layout(unet).stacks_of(level)]


class Recorder:
    """An attention processor of another tool, which sees what attention is given."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.seen = inner, []

    def __call__(self, attn: nn.Module, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.seen.append(hidden_states.shape[1])
        return self.inner(attn, hidden_states, *args, **kwargs)


@pytest.fixture
def record_attention() -> Callable[[Any], list[int]]:
    """Return a function that puts a `Recorder` on an attention and returns the list of how many tokens it sees."""

    def put(attention: Any) -> list[int]:
        recorder = Recorder(attention.processor)
        attention.set_processor(recorder)
        return recorder.seen

    return put


@pytest.fixture
def relative_error() -> Callable[[Tensor, Tensor], float]:
    """Return a function from a tensor and what it should be to the norm of the difference over the norm."""

    def error(got: Tensor, expected: Tensor) -> float:
        return ((got - expected).norm() / expected.norm()).item()

    return error
