"""How noisy a model's inputs are at each timestep, and what the model predicts: read from its pipeline's scheduler."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Schedule:
    """`alphas` [timesteps], the share of the clean latent in each; `prediction_type` as diffusers names it."""

    alphas: Tensor
    prediction_type: str


def read_schedule(model: object) -> Schedule:
    """Return the schedule of a pipeline; Stable Diffusion's for a bare UNet, or where the scheduler tells none."""
    scheduler = getattr(model, "scheduler", None)
    config = getattr(scheduler, "config", None)
    alphas = getattr(scheduler, "alphas_cumprod", None)
    if not isinstance(alphas, Tensor):
        alphas = _stable_diffusion_alphas(getattr(config, "num_train_timesteps", 1000))
    return Schedule(alphas, getattr(config, "prediction_type", "epsilon"))


def _stable_diffusion_alphas(timesteps: int) -> Tensor:
    """Return the products of 1 - beta, whose roots rise in a line ("scaled_linear")."""
    roots = torch.linspace(0.00085**0.5, 0.012**0.5, timesteps, dtype=torch.float64)
    return (1 - roots.square()).cumprod(dim=0).float()
