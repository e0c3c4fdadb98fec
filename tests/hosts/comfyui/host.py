"""A real ComfyUI in this process: tiny random models in its own classes, sampled by its own samplers."""

from __future__ import annotations

import functools
import os
import sys
from typing import Any
from unittest import mock

import torch
from torch import Tensor

SD15 = {
    "model_channels": 32,
    "channel_mult": [1, 2, 2, 2],
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
    "num_heads": 2,
    "num_head_channels": -1,
    "context_dim": 64,
    "adm_in_channels": None,
    "use_linear_in_transformer": False,
}
SDXL = {
    "model_channels": 32,
    "channel_mult": [1, 2, 2],
    "num_res_blocks": [2, 2, 2],
    "transformer_depth": [0, 0, 2, 2, 4, 4],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 4, 4, 4],
    "transformer_depth_middle": 4,
    "num_heads": -1,
    "num_head_channels": 16,
    "context_dim": 128,
    "adm_in_channels": 64 + 1536,
    "num_classes": "sequential",
    "use_linear_in_transformer": True,
}
_ALWAYS = {
    "in_channels": 4,
    "out_channels": 4,
    "image_size": 32,
    "use_spatial_transformer": True,
    "legacy": False,
    "use_temporal_attention": False,
    "use_temporal_resblock": False,
}
SD15_TRUE_SIZE = SD15 | {"model_channels": 320, "channel_mult": [1, 2, 4, 4], "num_heads": 8, "context_dim": 768}
SHAPES = {"sd15": SD15, "sd15-true-size": SD15_TRUE_SIZE, "sdxl": SDXL}
TEXT_ROWS = 77


def missing() -> str | None:
    """Return why there is no ComfyUI to test with, if there is none."""
    path = os.environ.get("COMFYUI_PATH")
    if not path:
        return "COMFYUI_PATH does not name a ComfyUI checkout"
    return None if os.path.isdir(os.path.join(path, "comfy")) else f"COMFYUI_PATH names no ComfyUI checkout: {path}"


@functools.cache
def open_host() -> Any:
    """Import ComfyUI for a CPU; return what must stay alive."""
    from tests.hosts.comfyui.live.start import declare_operators

    library = declare_operators()
    sys.path.append(os.environ["COMFYUI_PATH"])
    from comfy.cli_args import args

    args.cpu = True
    args.use_pytorch_cross_attention = True

    return library


def new_model(shape: str = "sd15", dtype: torch.dtype = torch.float32) -> Any:
    """Return a ModelPatcher of a random UNet, always the same; all of them share it, as in a server."""
    open_host()
    from comfy import model_management, model_patcher

    device = model_management.get_torch_device()
    return model_patcher.ModelPatcher(_base_model(shape, dtype), load_device=device, offload_device=device)


@functools.cache
def _base_model(shape: str, dtype: torch.dtype) -> Any:
    from comfy import supported_models

    kind = supported_models.SDXL if shape == "sdxl" else supported_models.SD15
    model = _new_base_model(kind, {**_ALWAYS, **SHAPES[shape]}, dtype)
    fill(model.diffusion_model)
    return model


def _new_base_model(kind: Any, settings: dict[str, Any], dtype: torch.dtype) -> Any:
    config = type(f"Tiny{kind.__name__}", (kind,), {"unet_config": settings, "unet_extra_config": {}})(dict(settings))
    config.set_inference_dtype(dtype, None)
    return config.get_model({}, "", device="cpu").eval().requires_grad_(False)


def demo_model(dtype: torch.dtype = torch.float32) -> Any:
    """Return a ModelPatcher of the demo model's denoiser, read by ComfyUI's own code from our checkpoint."""
    open_host()
    from comfy import model_detection, model_management, model_patcher, supported_models
    from safetensors.torch import load_file

    from tome_core.demo.loader import CHECKPOINT

    prefix = "model.diffusion_model."
    weights = {name: weight.float() for name, weight in load_file(CHECKPOINT).items() if name.startswith(prefix)}
    settings: Any = model_detection.detect_unet_config(weights, prefix)
    settings |= {"num_heads": 2, "num_head_channels": -1}
    model = _new_base_model(supported_models.SD15, settings, dtype)
    model.diffusion_model.load_state_dict({name.removeprefix(prefix): weight for name, weight in weights.items()})
    device = model_management.get_torch_device()
    return model_patcher.ModelPatcher(model, load_device=device, offload_device=device)


def fill(network: torch.nn.Module) -> None:
    """Give a network random weights, always the same: ComfyUI's own layers begin with none."""
    random = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        values = torch.zeros(parameter.shape)
        if parameter.dim() > 1:
            values = torch.randn(parameter.shape, generator=random) / parameter[0].numel() ** 0.5
        elif name.endswith("weight"):
            values += 1
        parameter.data = values.to(parameter.dtype)
        parameter.requires_grad_(False)


def text(model: Any, seed: int = 1, rows: int = TEXT_ROWS, **more: Any) -> list[Any]:
    """Return one conditioning of random text."""
    random = torch.Generator().manual_seed(seed)
    width = model.model.model_config.unet_config["context_dim"]
    pooled = torch.randn(1, 64, generator=random)
    return [[torch.randn(1, rows, width, generator=random), {"pooled_output": pooled, **more}]]


@torch.inference_mode()
def sample(
    model: Any,
    *,
    size: tuple[int, int] = (16, 16),
    batch: int = 1,
    steps: int = 3,
    cfg: float = 5.0,
    seed: int = 0,
    positive: list[Any] | None = None,
    negative: list[Any] | None = None,
    together: bool = True,
    noise: Tensor | None = None,
    sampler: str = "euler",
    **more: Any,
) -> Tensor:
    """Return latents [B, 4, height, width] of a run, with prompt and empty prompt in one call or in two."""
    from comfy import model_management
    from comfy import sample as sampling

    if noise is None:
        noise = torch.randn(batch, 4, *size, generator=torch.Generator().manual_seed(seed))
    latent = torch.zeros_like(noise)
    positive = text(model, 1) if positive is None else positive
    negative = text(model, 2) if negative is None else negative
    given = {"latent_image": latent, "seed": seed, "disable_pbar": True, **more}
    free = model_management.get_free_memory if together else (lambda *args, **kwargs: 0)
    with mock.patch.object(model_management, "get_free_memory", free):
        return sampling.sample(model, noise, steps, cfg, sampler, "normal", positive, negative, **given)
