"""Denoisers to time with random weights in a family's true size, and one call of any denoiser."""

import math
from collections.abc import Callable
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from ...checkpoints.configuration import read_configs
from ...checkpoints.family import Family
from ..drawing.sampling import PIXELS

RANDOM: Final = ("sd15-random", "sd2-random", "sdxl-random")
TIMED_AT: Final = 0.5  # of a sampling run: where the call is that is timed
_TEXT_ROWS: Final = 77
_TRAIN_TIMESTEPS: Final = 1000  # of every Stable Diffusion


def random_denoiser(name: str, *, dtype: torch.dtype, device: torch.device) -> Any:
    """Return the UNet of one of `RANDOM`, a family in its true size with random weights: of no use for quality.

    Each weight is drawn where it will stay, in its own type: Stable Diffusion XL takes 5 GB in half precision.
    """
    from diffusers import UNet2DConditionModel

    family = cast(Family, name.removesuffix("-random"))
    with torch.device("meta"):
        unet = UNet2DConditionModel(**dict(read_configs(family)["unet"]))
    nn.Module.to(unet, dtype=dtype).to_empty(device=device).eval().requires_grad_(False)
    generator = torch.Generator(device).manual_seed(0)
    for module in unet.modules():
        for parameter in module.parameters(recurse=False):
            _draw(parameter, isinstance(module, nn.GroupNorm | nn.LayerNorm), generator)
    return unet


def new_call(unet: Any, size: tuple[int, int], batch: int, seed: int = 0) -> Callable[[], Tensor]:
    """Return one call of a denoiser in the middle of its schedule, on noise and random text rows, always the same.

    It takes a width and height in pixels and returns [batch, 4, height / 8, width / 8]. Rows i and i + batch / 2 share
    their latent and differ in their text, as the prompt and the empty prompt of an image do.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(unet.device, unet.dtype)

    images = -(-batch // 2)
    width, height = size
    sample = noise(images, unet.config.in_channels, height // PIXELS, width // PIXELS).repeat(2, 1, 1, 1)[:batch]
    text = noise(batch, _TEXT_ROWS, unet.config.cross_attention_dim)
    added = None
    if unet.config.addition_embed_type == "text_time":  # Stable Diffusion XL
        pooled = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
        sizes = torch.tensor([height, width, 0, 0, height, width], device=unet.device, dtype=unet.dtype)
        added = {"text_embeds": noise(batch, pooled), "time_ids": sizes.expand(batch, 6)}
    timestep = torch.tensor(round((1 - TIMED_AT) * _TRAIN_TIMESTEPS), device=unet.device)

    @torch.no_grad()
    def call() -> Tensor:
        # by position: tomesd reads the size of the latent from the first positional argument
        return unet(sample, timestep, text, added_cond_kwargs=added, return_dict=False)[0]

    return call


def _draw(parameter: Tensor, is_norm: bool, generator: torch.Generator) -> None:
    """Fill a parameter so that signals keep their size: fan-in scaled matrices, neutral norms, no biases."""
    if parameter.dim() == 1:
        parameter.fill_(1.0 if is_norm else 0.0)
        return
    bound = math.sqrt(3 / parameter[0].numel())
    parameter.uniform_(-bound, bound, generator=generator)
