"""Whether a checkpoint holds every weight that its configurations ask for, told from its headers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from ..errors import CheckpointError
from .configuration import Configs, is_open_clip, is_xl, text_encoders
from .header import Header
from .layout import CLIP_PREFIX, clip_names, open_clip_names, unet_names, vae_names

if TYPE_CHECKING:
    from torch import nn

Shapes = Mapping[str, tuple[int, ...]]

_SD2_PREFIX: Final = "cond_stage_model.model."
_SDXL_PREFIXES: Final = {
    "text_encoder": "conditioner.embedders.0.transformer.text_model.",
    "text_encoder_2": "conditioner.embedders.1.model.",
}


def check_complete(header: Header, configs: Configs) -> None:
    """Raise `CheckpointError` that names the first missing or misshapen weight of a file in original layout.

    No weight is read. Surplus weights (EMA copies, buffers of old releases) are fine.
    """
    for part, needed in original_shapes(configs).items():
        check_part(header.path, part, needed, header.shapes)


def check_part(path: Path, part: str, needed: Shapes, found: Shapes) -> None:
    """Raise `CheckpointError` that names the first weight of one component that is missing or misshapen."""
    missing = [name for name in needed if name not in found]
    if len(missing) == len(needed):
        raise CheckpointError(f"{path} holds no {part} (such as {missing[0]})")
    if missing:
        raise CheckpointError(
            f"{path} lacks {len(missing)} of the {len(needed)} weights of the {part}, first {missing[0]}"
        )
    for name, shape in needed.items():
        if _without_ones(found[name]) != _without_ones(shape):
            raise CheckpointError(f"{path} has {name} in shape {found[name]}, the {part} needs {shape}")


def original_shapes(configs: Configs) -> dict[str, Shapes]:
    """Return component -> original name -> shape, for every weight that a pipeline of these configurations needs."""
    empty = empty_models(configs)
    unet, vae = empty["unet"], empty["vae"]
    shapes: dict[str, Shapes] = {
        "unet": _renamed(unet, unet_names(unet.state_dict(), unet.config.layers_per_block)),
        "vae": _renamed(vae, vae_names(vae.state_dict(), len(vae.config.block_out_channels))),
    }
    for name in text_encoders(configs):
        shapes[name] = _text_shapes(empty[name], name, configs)
    return shapes


def empty_models(configs: Configs) -> dict[str, Any]:
    """Return the models of these configurations without memory for their weights (on the meta device)."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    with torch.device("meta"):
        models: dict[str, Any] = {
            "unet": UNet2DConditionModel.from_config(dict(configs["unet"])),
            "vae": AutoencoderKL.from_config(dict(configs["vae"])),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**configs["text_encoder"])),
        }
        if "text_encoder_2" in configs:
            models["text_encoder_2"] = CLIPTextModelWithProjection(CLIPTextConfig(**configs["text_encoder_2"]))
    return models


def _text_shapes(encoder: nn.Module, name: str, configs: Configs) -> Shapes:
    xl = is_xl(configs)
    if not is_open_clip(configs[name]):
        return _renamed(encoder, clip_names(encoder.state_dict(), _SDXL_PREFIXES[name] if xl else CLIP_PREFIX))
    names = open_clip_names(encoder.state_dict(), _SDXL_PREFIXES[name] if xl else _SD2_PREFIX)
    # Query, key and value share one original weight.
    return {
        original: (3 * shape[0], *shape[1:]) if ".in_proj_" in original else shape
        for original, shape in _renamed(encoder, names).items()
    }


def _renamed(model: nn.Module, names: Mapping[str, str]) -> Shapes:
    return {names[name]: tuple(weight.shape) for name, weight in model.state_dict().items()}


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A 1x1 convolution and a matrix hold the same weights."""
    return tuple(size for size in shape if size != 1)
