"""How noisy a model's inputs are at each timestep, and what the model predicts: read from its pipeline's scheduler."""

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .estimate import PREDICTION_TYPES


@dataclass(frozen=True)
class Schedule:
    """What a scheduler tells about a model's inputs.

    Attributes:
        alphas: [timesteps], the share of the clean latent in each.
        prediction_type: what the model predicts, as diffusers names it.
        assumption: what is taken for granted where no scheduler tells it; None where one does.
        obstacle: why the clean latent cannot be told from a prediction; None where it can.
    """

    alphas: Tensor
    prediction_type: str = "epsilon"
    assumption: str | None = None
    obstacle: str | None = None


class SchedulerWatch:
    """Looks at a pipeline's scheduler, also at one that is put there later, and tells when a sampling run begins.

    A bare UNet has none. The pipeline is not kept alive.
    """

    def __init__(self, model: object) -> None:
        self._scheduler = getattr(model, "scheduler", None)
        self._pipeline = None if self._scheduler is None else weakref.ref(model)
        self._timesteps: object = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_pipeline": None}  # a copy of the model is not in this pipeline

    @property
    def scheduler(self) -> object:
        """The pipeline's present scheduler, None if it has none."""
        pipeline = self._pipeline() if self._pipeline else None
        self._scheduler = getattr(pipeline, "scheduler", self._scheduler)
        return self._scheduler

    def sees_new_run(self) -> bool:
        """Return whether the scheduler was given timesteps since the last look, as each run of a pipeline does."""
        timesteps = getattr(self.scheduler, "timesteps", None)
        is_new = timesteps is not self._timesteps
        self._timesteps = timesteps
        return is_new

    @property
    def timesteps(self) -> list[float]:
        """The timesteps of the run that was seen last."""
        return self._timesteps.tolist() if isinstance(self._timesteps, Tensor) else []


def read_schedule(scheduler: object) -> Schedule:
    """Return what a diffusers scheduler tells, and Stable Diffusion's schedule for None (a bare UNet)."""
    if scheduler is None:
        told = (
            "Stable Diffusion's noise schedule and prediction of noise are taken for granted, since a bare UNet tells"
        )
        return Schedule(_stable_diffusion_alphas(1000), assumption=f"{told} none: give the pipeline if it has others")
    name, config = type(scheduler).__name__, getattr(scheduler, "config", None)
    alphas = getattr(scheduler, "alphas_cumprod", None)
    prediction_type = getattr(config, "prediction_type", "epsilon")
    if not isinstance(alphas, Tensor):
        timesteps = getattr(config, "num_train_timesteps", 1000)
        obstacle = f"{name} has no alphas_cumprod (flow matching, or noise levels alone)"
        return Schedule(_stable_diffusion_alphas(timesteps), prediction_type, obstacle=obstacle)
    obstacle = None
    if getattr(config, "timestep_type", "discrete") == "continuous":
        obstacle = f"{name} counts noise levels where others count timesteps (timestep_type continuous)"
    elif getattr(config, "use_flow_sigmas", False):
        obstacle = f"{name} samples by flow matching (use_flow_sigmas)"
    elif prediction_type not in PREDICTION_TYPES:
        obstacle = f"{name} has prediction_type {prediction_type!r}, and known are {', '.join(PREDICTION_TYPES)}"
    return Schedule(alphas, prediction_type, obstacle=obstacle)


def _stable_diffusion_alphas(timesteps: int) -> Tensor:
    """Return the products of 1 - beta, whose roots rise in a line ("scaled_linear")."""
    roots = torch.linspace(0.00085**0.5, 0.012**0.5, timesteps, dtype=torch.float64)
    return (1 - roots.square()).cumprod(dim=0).float()
