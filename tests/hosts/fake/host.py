"""A host of the patcher protocol without ComfyUI: a discrete noise schedule, guidance, and an Euler sampler."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from tests.hosts.fake.protocol import ModelPatcher, run_wrapped
from tests.hosts.fake.unet import TEXT_WIDTH, UNetModel

OnStep = Callable[[int], object]
SHAPES = {"sd15": ((1, 1, 1), False), "sdxl": ((0, 2, 3), True)}


class ModelSampling(nn.Module):
    """Noise levels by number, as for Stable Diffusion."""

    sigmas: Tensor

    def __init__(self) -> None:
        super().__init__()
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        alphas = (1 - betas).cumprod(0)
        self.register_buffer("sigmas", ((1 - alphas) / alphas).sqrt().float())

    def timestep(self, sigma: Tensor) -> Tensor:
        return (sigma.log() - self.sigmas.log()[:, None]).abs().argmin(dim=0)

    def percent_to_sigma(self, percent: float) -> float:
        return float(self.sigmas[round((1 - percent) * 999)])


class BaseModel(nn.Module):
    def __init__(self, shape: str, *, is_forge: bool = False) -> None:
        super().__init__()
        depths, has_label = SHAPES[shape]
        self.diffusion_model = UNetModel(depths, has_label=has_label, is_forge=is_forge)
        self.model_sampling = ModelSampling()

    def apply_model(
        self,
        x: Tensor,
        t: Tensor,
        c_crossattn: Tensor,
        transformer_options: dict[str, Any],
        y: Tensor | None = None,
    ) -> Tensor:
        """Return the clean latents that the network takes noisy ones to be."""

        def apply(x: Tensor, t: Tensor, concat: None, text: Tensor, control: None, options: dict[str, Any]) -> Tensor:
            sigma = t[:, None, None, None]
            scaled = (x / (sigma**2 + 1).sqrt()).to(next(self.diffusion_model.parameters()).dtype)
            steps = self.model_sampling.timestep(t).to(scaled.dtype)
            noise = self.diffusion_model(scaled, steps, text.to(scaled.dtype), y, options)
            return x - noise.float() * sigma

        return run_wrapped("apply_model", apply, self, transformer_options, x, t, None, c_crossattn, None)


class Guider:
    """One sampling run: guidance between a prompt and an empty prompt."""

    def __init__(self, patcher: ModelPatcher, conds: dict[int, Tensor], cfg: float, order: tuple[int, ...]) -> None:
        self.model_patcher, self._conds, self._cfg, self._order = patcher, conds, cfg, order
        self.model_options = {**patcher.model_options}
        options = {**patcher.model_options["transformer_options"], "wrappers": patcher.wrappers}
        self.model_options["transformer_options"] = options
        self.together = True

    def sample(self, noise: Tensor, sigmas: Tensor, on_step: OnStep | None = None) -> Tensor:
        """Return clean latents [B, 4, height, width]."""

        def outer(noise: Tensor, latent: None, sampler: None, sigmas: Tensor, options: Any) -> Tensor:
            return self._euler(noise, sigmas, on_step)

        options = self.model_options["transformer_options"]
        return run_wrapped("outer_sample", outer, self, options, noise, None, None, sigmas)

    def _euler(self, noise: Tensor, sigmas: Tensor, on_step: OnStep | None) -> Tensor:
        x = noise * sigmas[0]
        for step, (sigma, following) in enumerate(pairwise(sigmas)):
            if on_step is not None:
                on_step(step)
            denoised = self._guided(x, sigma, sigmas)
            x = x + (x - denoised) / sigma * (following - sigma)
        return x

    def _guided(self, x: Tensor, sigma: Tensor, sigmas: Tensor) -> Tensor:
        found: dict[int, Tensor] = {}
        for kinds in [self._order] if self.together else [(kind,) for kind in self._order]:
            options = copy.copy(self.model_options["transformer_options"])
            options |= {"cond_or_uncond": list(kinds), "sigmas": sigma.reshape(1), "sample_sigmas": sigmas}
            text = torch.cat([self._conds[kind].expand(len(x), -1, -1) for kind in kinds])
            pooled = text[:, 0, :8] if self.model_patcher.model.diffusion_model.label_emb is not None else None
            rows = x.repeat(len(kinds), 1, 1, 1)
            out = self._apply(rows, sigma.expand(len(rows)), text, options, pooled)
            found |= dict(zip(kinds, out.chunk(len(kinds)), strict=True))
        return found[1] + (found[0] - found[1]) * self._cfg if 1 in found else found[0]

    def _apply(self, x: Tensor, t: Tensor, text: Tensor, options: dict[str, Any], y: Tensor | None) -> Tensor:
        return self.model_patcher.model.apply_model(x, t, text, options, y)


def new_model(shape: str = "sd15", dtype: torch.dtype = torch.float32) -> ModelPatcher:
    """Return a patcher of a random UNet, always the same."""
    return ModelPatcher(with_random_weights(BaseModel(shape), dtype))


def with_random_weights(model: BaseModel, dtype: torch.dtype = torch.float32) -> BaseModel:
    """Return a model whose network has random weights, always the same."""
    model, random = model.eval().requires_grad_(False), torch.Generator().manual_seed(0)
    for name, parameter in model.diffusion_model.named_parameters():
        if parameter.dim() > 1:
            parameter.normal_(std=parameter[0].numel() ** -0.5, generator=random)
        else:
            parameter.fill_(float("norm" in name and name.endswith("weight")))
    model.diffusion_model.to(dtype)
    return model


def text(model: ModelPatcher, seed: int = 1, rows: int = 7) -> Tensor:
    """Return one conditioning of random text."""
    return torch.randn(1, rows, TEXT_WIDTH, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def sample(
    model: ModelPatcher,
    *,
    size: tuple[int, int] = (16, 16),
    batch: int = 1,
    steps: int = 3,
    cfg: float = 5.0,
    seed: int = 0,
    positive: Tensor | None = None,
    negative: Tensor | None = None,
    together: bool = True,
    order: tuple[int, int] = (1, 0),
    noise: Tensor | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Return latents [B, 4, height, width] of a run, with prompt and empty prompt in one call or in two.

    `on_step` is called before each step with its number from 0.
    """
    if noise is None:
        noise = torch.randn(batch, 4, *size, generator=torch.Generator().manual_seed(seed))
    conds = {0: text(model, 1) if positive is None else positive, 1: text(model, 2) if negative is None else negative}
    guider = Guider(model, conds, cfg, order if cfg != 1 else (0,))
    guider.together = together
    levels = model.model.model_sampling.sigmas
    steps_at = torch.linspace(999, 0, steps + 1).long()[:-1]
    return guider.sample(noise, torch.cat([levels[steps_at], torch.zeros(1)]), on_step)
