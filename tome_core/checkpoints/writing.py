"""Write a diffusers model back into Stable Diffusion 1.5's original key layout, the form that every host reads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .layout import clip_names, unet_names, vae_names


def to_original_layout(
    unet: Any, vae: Any, text_encoder: Any, *, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Return original name -> weight on the CPU, in `dtype` or as it is, ready for `safetensors.torch.save_file`.

    unet: a `UNet2DConditionModel`; vae: an `AutoencoderKL`; text_encoder: a `CLIPTextModel`; of any width.
    The weights share no memory with the models. `load_original` is the way back.
    """
    names = {
        **_originals(unet, unet_names(unet.state_dict(), unet.config.layers_per_block)),
        **_originals(vae, vae_names(vae.state_dict(), len(vae.config.block_out_channels))),
        **_originals(text_encoder, clip_names(text_encoder.state_dict())),
    }
    return {name: _as_original(name, weight).to("cpu", dtype, copy=True).contiguous() for name, weight in names.items()}


def _originals(model: Any, names: dict[str, str]) -> dict[str, Tensor]:
    return {names[name]: weight.detach() for name, weight in model.state_dict().items()}


def _as_original(name: str, weight: Tensor) -> Tensor:
    """The original autoencoder's attention is made of 1x1 convolutions, diffusers' of matrices."""
    is_vae_attention = ".mid.attn_1." in name and weight.ndim == 2
    return weight[:, :, None, None] if is_vae_attention else weight
