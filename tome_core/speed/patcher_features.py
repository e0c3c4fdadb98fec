"""What plans are made from in a patcher's model: the latent, its estimate, the first convolution, a block's input."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .estimate import CleanEstimate
from .level_report import Grid
from .patcher_call import SpeedCall, call_in
from .report import SpeedReport

_NEIGHBOURS = 9  # what the estimate tells of each channel at each token: its own and those around it
_INSIDE = ("first_block", "block")  # metrics that only hooks on the network see


class Estimates:
    """What the steps of one sampling run took its pictures to be.

    A patcher's model puts out the clean latent itself, whatever its network predicts: no schedule is needed.
    """

    def __init__(self, report: SpeedReport) -> None:
        self._report = report
        self._estimate = CleanEstimate(torch.ones(1), "sample") if report.metric == "estimate" else None

    def features(self, call: SpeedCall, x: Tensor) -> Tensor:
        """Return [B, 9 C, height, width] for a call on the noisy latents x [B, C, height, width]."""
        images = call.state.images
        return x if self._estimate is None or not images else self._estimate.features(images)

    def learn(self, call: SpeedCall, denoised: object) -> None:
        """Take what the model put out, when its call has ended."""
        images = call.state.images if self._estimate is not None else []
        if self._estimate is None or not images:
            return
        if not isinstance(denoised, Tensor) or not self._estimate.learn(images, denoised.float(), call.text):
            self._report.note("metric estimate learns nothing from this model's output: it sees the noisy latent alone")


def offer_latent(call: SpeedCall, x: Tensor, estimates: Estimates) -> None:
    """Offer what is known before the network runs on x [B, C, height, width], for the metrics that look at that."""
    channels, height, width = x.shape[1:]
    if call.metric == "latent":
        call.observation.offer((channels, height, width), lambda: x)
    elif call.metric == "estimate":
        call.observation.offer((_NEIGHBOURS * channels, height, width), partial(estimates.features, call, x))


def metric_outside(metric: str, report: SpeedReport) -> str:
    """Return the metric of a compiled call, and report it: the first convolution stands in for what is hidden there."""
    if metric not in _INSIDE:
        return metric
    report.note(f"metric {metric} is inside the compiled model: stem is used instead")
    return "stem"


def observe_stem(h: Tensor, options: dict[str, Any]) -> Tensor:
    """Take the output of the first convolution [B, C, height, width], as an input block patch; hand it on as it is."""
    call = call_in(options)
    if call is not None and tuple(options.get("block") or ()) == ("input", 0):
        call.has_run = True
        if call.metric == "stem" and call.state.is_active:
            call.observation.offer((h.shape[1], h.shape[2], h.shape[3]), lambda: h)
    return h


def observe_block(call: SpeedCall, x: Tensor, grid: Grid) -> None:
    """Take the input of a block x [B, N, C] on a grid."""
    make: Callable[[], Tensor] = partial(_as_image, x, grid)
    call.observation.offer((x.shape[2], *grid), make)


def _as_image(x: Tensor, grid: Grid) -> Tensor:
    """Return [B, C, height, width] of tokens [B, N, C]."""
    return x.transpose(1, 2).unflatten(2, grid)
