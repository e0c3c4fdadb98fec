"""The configurations that a checkpoint in original layout leaves out, and whether it holds every weight they ask for.

One JSON file a family, in diffusers' terms.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from ..errors import CheckpointError
from .family import Family, Header
from .layout import CLIP_PREFIX, clip_names, open_clip_names, renamed, unet_names, vae_names
from .tokenizer import END, OPEN_CLIP_PAD, clip_tokenizer

if TYPE_CHECKING:
    from torch import nn
    from transformers import CLIPTokenizer

Shapes = Mapping[str, tuple[int, ...]]
Configs = Mapping[str, Mapping[str, Any]]
"""Component -> its configuration: "unet", "vae", "text_encoder", "scheduler", and "text_encoder_2" makes it SDXL.

The scheduler's "_class_name" names a diffusers scheduler; without it, DDIMScheduler."""

_TEXT_ENCODERS: Final = ("text_encoder", "text_encoder_2")
_SD2_PREFIX: Final = "cond_stage_model.model."
_SDXL_PREFIXES: Final = {
    "text_encoder": "conditioner.embedders.0.transformer.text_model.",
    "text_encoder_2": "conditioner.embedders.1.model.",
}


def read_configs(family: Family, prediction_type: str = "epsilon") -> Configs:
    """Return the configurations of a published family whose denoiser predicts that."""
    configs = json.loads(Path(__file__).with_name("configs").joinpath(f"{family}.json").read_text("utf-8"))
    configs["scheduler"]["prediction_type"] = prediction_type
    if family == "sd2" and prediction_type == "v_prediction":
        configs["unet"]["sample_size"] = 96  # published for 768 pixels
    return configs


def text_encoders(configs: Configs) -> list[str]:
    """Return the names of the text encoders: one for Stable Diffusion 1 and 2, two for SDXL."""
    return [name for name in _TEXT_ENCODERS if name in configs]


def is_xl(configs: Configs) -> bool:
    """Return whether these are the configurations of an SDXL pipeline, told from its second text encoder."""
    return len(text_encoders(configs)) > 1


def is_open_clip(config: Mapping[str, Any]) -> bool:
    """Return whether a text encoder is OpenCLIP's, told from its activation: OpenAI's CLIP alone has quick_gelu."""
    return config.get("hidden_act", "quick_gelu") != "quick_gelu"


def tokenizer_of(text_encoder: str) -> str:
    """Return the name that a pipeline gives to the tokenizer of that text encoder."""
    return text_encoder.replace("text_encoder", "tokenizer")


def tokenizers(configs: Configs, folder: Path | None = None) -> dict[str, CLIPTokenizer]:
    """Return "tokenizer" (and "tokenizer_2"), one for each text encoder, padding as it was taught.

    folder: of a pipeline; those that it holds are left out.
    """
    return {
        tokenizer_of(name): clip_tokenizer(pad=OPEN_CLIP_PAD if is_open_clip(configs[name]) else END)
        for name in text_encoders(configs)
        if folder is None or not (folder / tokenizer_of(name)).is_dir()
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
    return {name: tuple(weight.shape) for name, weight in renamed(model, names).items()}


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A 1x1 convolution and a matrix hold the same weights."""
    return tuple(size for size in shape if size != 1)
