"""What merging itself takes of a call, and a merge that takes next to nothing.

That one shows what the best matching and the best kernels could still gain: it takes every n-th token by a strided
slice and copies each result back to its neighbours, so that the model does the work of a merged call and nothing else.
Its pictures are worth nothing.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...merging import MergePlan
from ...speed import Matcher, SpeedConfig
from ...speed.plans.making import named_matcher
from ..clock import Clock
from ..methods.merging import Merging, merge
from ..methods.reading import OURS
from ..suites import Case


class Ceiling(Merging):
    """A method with a merge that costs nothing."""

    def on(self, model: Any, cases: Sequence[Case] = ()) -> AbstractContextManager[object]:
        """Return a context of that. A timed call begins a run of its own and reuses no plan, so refresh is left out."""
        return merge(model, replace(self.config, refresh=1), free_matcher(self.config.stride))


def ceiling_of(method: Merging) -> Ceiling | None:
    """Return the ceiling of a method; None for other packages, and for ToDo, which is a slice itself."""
    return Ceiling(f"ceiling of {method.name}", method.kind, method.config) if method.kind == OURS else None


class FreePlan(MergePlan):
    """A plan in which each token stands for those after it, merged by a slice and unmerged by a copy."""

    def merge(self, x: Tensor, *, mode: Literal["mean", "sum"] = "mean", sizes: Tensor | None = None) -> Tensor:
        """Return [B, M, C]: a view of every n-th token of x [B, N, C]."""
        return x[:, :: self.tokens // self.kept][:, : self.kept]

    def unmerge(self, y: Tensor) -> Tensor:
        """Return [B, N, C]: each token of y [B, M, C] n times, and the last one for what is left over."""
        batch, kept, channels = y.shape
        step = self.tokens // kept
        copies = y.unsqueeze(2).expand(batch, kept, step, channels).reshape(batch, kept * step, channels)
        left_over = self.tokens - kept * step
        return torch.cat([copies, y[:, -1:].expand(-1, left_over, -1)], dim=1) if left_over else copies


@lru_cache(maxsize=64)
def _free_plan(batch: int, tokens: int, kept: int, device: torch.device) -> FreePlan:
    step = tokens // kept
    slots = (torch.arange(tokens, device=device) // step).clamp(max=kept - 1)
    return FreePlan(**vars(MergePlan.from_representatives((slots * step).expand(batch, tokens), kept)))


def free_matcher(stride: tuple[int, int]) -> Matcher:
    """Return a matching that never looks at its metric and makes each plan once for its shape.

    It merges no more tokens than bipartite matching can in cells of `stride`.
    """

    def match(metric: Tensor, height: int, width: int, r: int) -> MergePlan:
        batch, tokens, _ = metric.shape
        cells = (height // stride[0]) * (width // stride[1])
        most = tokens - cells if cells else 0
        return _free_plan(batch, tokens, tokens - min(r, most), metric.device)

    return match


def overhead(unet: nn.Module, config: SpeedConfig, call: Callable[[], object], clock: Clock) -> float:
    """Return the share of one merged call's time that goes into matching, merging and unmerging its tokens.

    Not counted are the features that are matched on, and what is added back to tokens around a whole block or stack.
    The call begins a run of its own and reuses no plan of an earlier step, whatever the config's refresh says.
    """
    spent = 0.0

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            nonlocal spent
            start = clock()
            result = function(*args, **kwargs)
            spent += clock.figure(clock() - start)
            return result

        return run

    def match(metric: Tensor, height: int, width: int, r: int) -> MergePlan:
        plan = copy(matcher(metric, height, width, r))
        for name in ("merge", "unmerge"):
            object.__setattr__(plan, name, timed(getattr(plan, name)))
        return plan

    matcher = timed(named_matcher(config))
    with merge(unet, replace(config, refresh=1), match):
        start = clock()
        call()
        whole = clock.figure(clock() - start)
    return spent / whole
