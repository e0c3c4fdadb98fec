"""How one plan is made from features, and how many steps it serves."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...merging import MergePlan, bipartite_soft_matching_2d, window_matching
from ...merging.kernels import widen
from ..config import Grid, SpeedConfig

Matcher = Callable[[Tensor, int, int, int], MergePlan]  # metric [B, height * width, C], height, width, tokens to merge


MATCHERS: Final[dict[str, Callable[..., MergePlan]]] = {  # by their names in `SpeedConfig.matching`
    "bipartite": bipartite_soft_matching_2d,
    "window": window_matching,
}
_DRAWING: Final = (bipartite_soft_matching_2d,)  # those that can draw the kept tokens


@torch.no_grad()
def make_plan(features: Tensor, grid: Grid, r: int, matcher: Matcher) -> MergePlan:
    """Return a plan for each row of features [B, C, height, width], pooled to a grid: r of its tokens merge."""
    height, width = grid
    with _full_precision(features.device.type):
        pooled = widen(features)
        if pooled.shape[2:] != grid:
            pooled = functional.adaptive_avg_pool2d(pooled, grid)
        return matcher(pooled.flatten(2).transpose(1, 2), height, width, r)


def named_matcher(config: SpeedConfig, generator: torch.Generator | None = None) -> Matcher:
    """Return the matching that a config names; the kept tokens are drawn where there is a generator."""
    match = MATCHERS[config.matching]
    return partial(match, stride=config.stride, **({"generator": generator} if match in _DRAWING else {}))


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


def serves_another_step(age: int, refresh: int, percent: float, earlier_percent: float) -> bool:
    """Return whether the plans of the last step serve this step as well.

    They are made at each step up to 10 % of the run, where the picture takes shape, then for half of `refresh` steps,
    rounded up, and from 40 % on for all of them; a step of more than 10 % of the run changes the picture too much.
    Ours, not yet verified on real weights. Others keep a matching for a number of steps throughout (ToMA, arXiv
    2509.10918: ten) or make it at listed ones (CA-ToMe, arXiv 2501.00946).

    Args:
        age: steps since the plans were made, this one counted: 1 or more.
        refresh: steps that a plan serves at most.
        percent, earlier_percent: where this step and the last one are in the run, from 0 to 1.
    """
    if round(percent - earlier_percent, 6) > 0.1 or percent < 0.1:
        return False
    return age < ((refresh + 1) // 2 if percent < 0.4 else refresh)
