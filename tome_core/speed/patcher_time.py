"""Where a noise level of a patcher's model is in a sampling run: sigmas as timesteps."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

_TIMESTEPS = 1000
_POINTS = 256  # of the table: the places in the run whose sigmas are asked for


class NoiseLevels:
    """Timesteps of a model whose host counts noise by sigmas; timestep t is at 1 - t / `train_timesteps` of the run.

    Where the host numbers its sigmas, these numbers are the timesteps. Where it does not (EDM, distilled models), they
    are read from a table of its `percent_to_sigma`, made once, and interpolated by the logarithm of sigma.

    Args:
        model_sampling: the host's, with `percent_to_sigma` and, where its noise levels are numbered, `sigmas` and
            `timestep`.
    """

    def __init__(self, model_sampling: Any) -> None:
        self.model_sampling = model_sampling
        self.train_timesteps = _TIMESTEPS
        self._table: tuple[np.ndarray, np.ndarray] | None = None
        sigmas = getattr(model_sampling, "sigmas", None)
        if isinstance(sigmas, Tensor) and int(model_sampling.timestep(sigmas[-1:])) == len(sigmas) - 1:
            self.train_timesteps = len(sigmas)
        else:
            percents = (np.arange(_POINTS) + 0.5) / _POINTS
            logs = np.array([-math.log(max(float(model_sampling.percent_to_sigma(p)), 1e-12)) for p in percents])
            self._table = logs, percents

    def timesteps(self, sigmas: Tensor) -> Tensor:
        """Return the timestep of each sigma [B]. Nothing is read back from the device where the host numbers them."""
        if self._table is None:
            return self.model_sampling.timestep(sigmas).float()
        logs = -np.log(np.maximum(sigmas.detach().double().cpu().numpy(), 1e-12))
        percents = np.interp(logs, *self._table)
        return torch.from_numpy((1 - percents) * _TIMESTEPS).float()
