"""What a diffusers scheduler says about the noise in a model's input, and which sampling run a call belongs to."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..plans.schedule import (
    PREDICTIONS,
    NoiseSchedule,
    share_of_steps,
    stable_diffusion_alphas,
    variance_preserving,
)

_ASSUMED = (
    "Stable Diffusion's noise schedule and prediction of noise are assumed, since a bare UNet names none: "
    "give the pipeline if it has others"
)


@dataclass(frozen=True, eq=False)
class RunKey:
    """Tells one run of a scheduler from another: the timesteps of a run are one tensor, made for it.

    Attributes:
        timesteps: that tensor, which stays in memory as long as the key, so that no other has its address.
    """

    timesteps: Tensor

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunKey) and _address(self.timesteps) == _address(other.timesteps)

    def __hash__(self) -> int:
        return hash(_address(self.timesteps))


class SchedulerWatch:
    """Looks at a pipeline's scheduler, also at one that is put there later. A bare UNet has none.

    The pipeline is not kept alive.
    """

    def __init__(self, model: object) -> None:
        self._scheduler = getattr(model, "scheduler", None)
        self._pipeline = None if self._scheduler is None else weakref.ref(model)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_pipeline": None}  # a copy of the model is not in this pipeline

    @property
    def scheduler(self) -> object:
        """The pipeline's present scheduler, None if it has none."""
        pipeline = self._pipeline() if self._pipeline else None
        self._scheduler = getattr(pipeline, "scheduler", self._scheduler)
        return self._scheduler

    def key(self, timestep: object) -> RunKey | None:
        """Return what a run is known by, whoever runs it; None where a timestep belongs to no list of timesteps.

        A pipeline takes each timestep out of the one tensor that its scheduler made for the run.
        """
        if not isinstance(timestep, Tensor) or timestep.numel() == 0:
            return None
        storage = timestep.untyped_storage()
        elements = storage.nbytes() // timestep.element_size()
        is_repeated = timestep.dim() > 0 and timestep.stride(0) == 0  # one timestep for every row, without a copy
        if elements > (1 if is_repeated else timestep.numel()):
            return RunKey(torch.empty(0, dtype=timestep.dtype, device=timestep.device).set_(storage))
        own = getattr(self.scheduler, "timesteps", None)
        is_own = isinstance(own, Tensor) and bool((own.to(timestep.device) == timestep.flatten()[0]).any())
        return RunKey(own) if isinstance(own, Tensor) and is_own else None

    def announces(self, key: RunKey | None) -> bool:
        """Return False: a loop of one's own may draw several pictures by one list of timesteps."""
        return False

    def schedule(self, key: RunKey | None) -> NoiseSchedule:
        """Return what is known of the noise in a run."""
        return read_schedule(self.scheduler, self.timesteps(key))

    def timesteps(self, key: RunKey | None) -> list[float]:
        """Return the timesteps of a run; none where it is not a run of this scheduler."""
        own = getattr(self.scheduler, "timesteps", None)
        is_own = key is not None and isinstance(own, Tensor) and RunKey(own) == key
        return own.tolist() if is_own and isinstance(own, Tensor) else []


def read_schedule(scheduler: object, timesteps: Sequence[float] = ()) -> NoiseSchedule:
    """Return what a diffusers scheduler says; Stable Diffusion's schedule for None (a bare UNet).

    Args:
        scheduler: any of diffusers'.
        timesteps: those of the run. Where they are noise levels, they alone say where a step is in the run.
    """
    config = getattr(scheduler, "config", None)
    total = int(getattr(config, "num_train_timesteps", 1000))
    alphas = getattr(scheduler, "alphas_cumprod", None)
    if scheduler is None:
        amounts = variance_preserving(stable_diffusion_alphas())
        return NoiseSchedule(share_of_steps(1000), "epsilon", amounts, assumption=_ASSUMED)
    name = type(scheduler).__name__
    prediction = str(getattr(config, "prediction_type", "epsilon"))
    obstacle = None if prediction in PREDICTIONS else f"{name} has prediction_type {prediction!r}"
    if name.startswith("EDM"):
        return _edm(scheduler, config, prediction, timesteps, obstacle)
    # with another prediction than this one diffusers numbers continuous levels as it numbers discrete ones
    if getattr(config, "timestep_type", "discrete") == "continuous" and prediction == "v_prediction":
        return NoiseSchedule(_place_in(timesteps), prediction, _noise_levels(1.0), obstacle=obstacle)
    if name.startswith("FlowMatch"):
        return NoiseSchedule(share_of_steps(total), "flow_prediction", _flow(total))
    if getattr(config, "use_flow_sigmas", False):
        return NoiseSchedule(share_of_steps(total), prediction, _flow(total), obstacle=obstacle)
    if not isinstance(alphas, Tensor):
        is_counted = not timesteps or max(timesteps) > 1  # and not a share of the run, as IPNDM has it
        percent = share_of_steps(total) if is_counted else _place_in(timesteps)
        return NoiseSchedule(percent, prediction, obstacle=f"{name} has no alphas_cumprod")
    return NoiseSchedule(share_of_steps(len(alphas)), prediction, variance_preserving(alphas), obstacle=obstacle)


def _edm(
    scheduler: object, config: object, prediction: str, timesteps: Sequence[float], obstacle: str | None
) -> NoiseSchedule:
    """Return the schedule of Karras et al. 2022, table 1, whose network predicts F: z = c_skip x / c_in + c_out F."""
    data_std = float(getattr(config, "sigma_data", 0.5))
    amounts = _noise_levels(data_std)
    if prediction == "epsilon":  # so diffusers calls F with the other sign

        def turned(levels: Sequence[float]) -> tuple[Tensor, Tensor]:
            a, s = amounts(levels)
            return a, -s

        return NoiseSchedule(_place_in(timesteps), "v_prediction", turned, data_std, obstacle=obstacle)
    return NoiseSchedule(_place_in(timesteps), prediction, amounts, data_std, obstacle=obstacle)


def _noise_levels(data_std: float) -> Callable[[Sequence[float]], tuple[Tensor, Tensor]]:
    """Return a and s of timesteps that are log(sigma) / 4, for an input scaled to one: x / sqrt(sigma^2 + std^2)."""

    def amounts(levels: Sequence[float]) -> tuple[Tensor, Tensor]:
        sigma = torch.tensor(levels, dtype=torch.float64).mul(4).exp()
        scale = (sigma**2 + data_std**2).rsqrt()
        return scale.float(), (sigma * scale).float()

    return amounts


def _flow(total: int) -> Callable[[Sequence[float]], tuple[Tensor, Tensor]]:
    """Return a and s of flow matching, whose timesteps are sigma * `total`: x = (1 - sigma) z + sigma n."""

    def amounts(levels: Sequence[float]) -> tuple[Tensor, Tensor]:
        sigma = torch.tensor(levels, dtype=torch.float32) / total
        return 1 - sigma, sigma

    return amounts


def _place_in(timesteps: Sequence[float]) -> Callable[[float], float]:
    """Return the percent of a run by the place of a timestep among all of the run; 0 where these are not known."""

    def percent(timestep: float) -> float:
        if not timesteps:
            return 0.0
        nearest = min(range(len(timesteps)), key=lambda place: abs(timesteps[place] - timestep))
        return round(nearest / len(timesteps), 6)

    return percent


def _address(timesteps: Tensor) -> int:
    return timesteps.untyped_storage().data_ptr()
