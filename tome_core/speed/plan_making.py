"""How one plan is made from features: what a config says of matching, and the numbers that it draws."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..merging import MergePlan, bipartite_soft_matching_2d, window_matching
from ..merging.kernels import widen
from .config import SpeedConfig
from .level_report import Grid

Matcher = Callable[[Tensor, int, int, int], MergePlan]  # metric [B, height * width, C], height, width, tokens to merge


@torch.no_grad()
def make_plan(
    features: Tensor,
    grid: Grid,
    r: int,
    config: SpeedConfig,
    generator: torch.Generator | None,
    matcher: Matcher | None,
) -> MergePlan:
    """Return a plan for each row of features [B, C, height, width], pooled to a grid: r of its tokens merge.

    A matcher stands in for the matching that the config names. The kept tokens are drawn where there is a generator.
    """
    height, width = grid
    with _full_precision(features.device.type):
        pooled = widen(features)
        if pooled.shape[2:] != grid:
            pooled = functional.adaptive_avg_pool2d(pooled, grid)
        metric = pooled.flatten(2).transpose(1, 2)  # [B, N, C]
        if matcher is not None:
            return matcher(metric, height, width, r)
        if config.matching == "window":
            return window_matching(metric, height, width, r, stride=config.stride)
        return bipartite_soft_matching_2d(metric, height, width, r, stride=config.stride, generator=generator)


def new_generator(seed: int | None, level: int, drawn_at: float) -> torch.Generator | None:
    """Return what the kept tokens of a level are drawn with at a timestep; None where they are not drawn."""
    return None if seed is None else torch.Generator().manual_seed(_mix(seed, level, drawn_at))


def _full_precision(device_type: str) -> AbstractContextManager[object]:
    """Return a context without autocast, under which rounding would decide many near-ties between tokens."""
    has_autocast = device_type in ("cpu", "cuda")  # older torch refuses the very question for other devices
    return torch.autocast(device_type, enabled=False) if has_autocast else nullcontext()


def _mix(seed: int, level: int, drawn_at: float) -> int:
    """Return one seed of 64 bits from a seed, a level and a timestep, the same on every machine."""
    timestep_bits = int(np.float64(drawn_at).view(np.uint64))  # seeds are whole and not negative, timesteps may be both
    return int(np.random.SeedSequence([seed, level, timestep_bits]).generate_state(1, np.uint64)[0])
