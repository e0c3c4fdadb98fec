"""A host as the Forge family is: one slot around a model call, no keyed wrappers, residuals added in place."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from tests.hosts.fake.host import BaseModel, OnStep, text, with_random_weights

SLOT = "model_function_wrapper"


class KModel:
    """What Forge's patcher runs: `predictor` has its noise levels, and its network is written as Forge's."""

    def __init__(self, shape: str) -> None:
        self._inner = with_random_weights(BaseModel(shape, is_forge=True))
        self.diffusion_model, self.predictor = self._inner.diffusion_model, self._inner.model_sampling

    def apply_model(
        self,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        y: Tensor | None = None,
    ) -> Tensor:
        """Return the clean latents that the network takes noisy ones to be."""
        assert c_crossattn is not None
        return self._inner.apply_model(x, t, c_crossattn, dict(transformer_options or {}), y)


class UnetPatcher:
    """A light clone around a model that all clones share. It copies what it holds, and not what these hold."""

    def __init__(self, model: KModel) -> None:
        self.model = model
        self.model_options: dict[str, Any] = {"transformer_options": {}}

    def clone(self) -> UnetPatcher:
        """Return a patcher of the same model."""
        other = UnetPatcher(self.model)
        other.model_options = copy.deepcopy(self.model_options)
        return other


def new_model(shape: str = "sd15") -> UnetPatcher:
    """Return a patcher of the same random UNet that the other fake host has."""
    return UnetPatcher(KModel(shape))


@torch.inference_mode()
def sample(
    model: UnetPatcher,
    *,
    size: tuple[int, int] = (16, 16),
    batch: int = 1,
    steps: int = 3,
    cfg: float = 5.0,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Tensor:
    """Return latents [B, 4, height, width] of a run, with prompt and empty prompt in one call.

    `on_step` is called before each step with its number from 0.
    """
    levels, wrapper = model.model.predictor.sigmas, model.model_options.get(SLOT)
    sigmas = torch.cat([levels[torch.linspace(999, 0, steps + 1).long()[:-1]], torch.zeros(1)])
    x = torch.randn(batch, 4, *size, generator=torch.Generator().manual_seed(seed)) * sigmas[0]
    context = torch.cat([text(model, seed).expand(batch, -1, -1) for seed in (2, 1)])  # type: ignore[arg-type]
    pooled = context[:, 0, :8] if model.model.diffusion_model.label_emb is not None else None
    for step, (sigma, following) in enumerate(pairwise(sigmas)):
        if on_step is not None:
            on_step(step)
        options = {**model.model_options["transformer_options"], "cond_or_uncond": [1, 0], "sigmas": sigma.reshape(1)}
        c = {"c_crossattn": context, "transformer_options": options, "y": pooled}
        rows, t = x.repeat(2, 1, 1, 1), sigma.expand(2 * batch)
        denoised = _call(model.model.apply_model, wrapper, rows, t, c)
        negative, positive = denoised.chunk(2)
        clean = negative + (positive - negative) * cfg
        x = x + (x - clean) / sigma * (following - sigma)
    return x


def _call(
    apply_model: Callable[..., Tensor], wrapper: Callable[..., Tensor] | None, x: Tensor, t: Tensor, c: dict[str, Any]
) -> Tensor:
    if wrapper is None:
        return apply_model(x, t, **c)
    return wrapper(apply_model, {"input": x, "timestep": t, "c": c, "cond_or_uncond": [1, 0]})
