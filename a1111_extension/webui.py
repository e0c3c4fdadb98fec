"""Token merging on plain A1111: hooks on its UNet for the time of one sampling, by the core's door for plain torch."""

import weakref
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from modules import sd_unet, shared
from torch import nn

from tome_core.speed import SpeedReport
from tome_core.speed.doors.modules import SpeedHandle, apply_speed_to_module, close_handles, find_family

from .choice import Choose


class ModuleSpeed:
    """Merging in the passes of one job. No network is changed but by hooks, and none stays when the job is gone."""

    def __init__(self) -> None:
        self.reports: list[SpeedReport] = []
        self._handle: SpeedHandle | None = None
        self._network: nn.Module | None = None
        self._choose: Choose | None = None
        self._guarded: Any = None
        self._stack = ExitStack()

    @property
    def merging(self) -> SpeedHandle | None:
        """What merges now."""
        return self._handle

    def start(self, p: Any, choose: Choose) -> None:
        """Merge in the sampling that comes. Raises ValueError where the model or the settings do not allow it."""
        self.stop(p)
        self._choose = choose
        self._install()

    def check(self, denoiser: Any) -> None:
        """See before a step that the network in use is ours, after a refiner say, and that no error costs the image."""
        if self._choose is None:
            return
        if _network() is not self._network:
            self._install()
        inner = denoiser.inner_model
        if self._handle is not None and inner is not self._guarded:
            self._guarded = inner  # of this sampling alone, and so may have a method of its own
            inner.forward = partial(self._or_unmerged, inner.forward)

    def stop(self, p: Any) -> None:
        """Take everything off again."""
        if self._guarded is not None:
            vars(self._guarded).pop("forward", None)
        self._stack.close()
        self._handle = self._network = self._choose = self._guarded = None

    def remarks(self, p: Any) -> list[str]:
        """Return nothing: there is no other patch to speak of."""
        return []

    def network(self, p: Any) -> nn.Module:
        """Return the UNet that samples."""
        return _network()

    def _install(self) -> None:
        self._stack.close()
        self._handle = None
        assert self._choose is not None
        network = self._network = _network()
        if getattr(sd_unet, "current_unet", None) is not None:
            raise ValueError("another engine computes in the UNet's place, SD Unet in the settings")
        config = self._choose(find_family(network))
        if config.is_neutral:
            return
        prediction = "v_prediction" if shared.sd_model.parameterization == "v" else "epsilon"
        self._handle = apply_speed_to_module(network, config, prediction=prediction)
        self.reports.append(self._handle.report)
        self._stack.callback(self._handle.close)
        self._stack.enter_context(self._handle.sampling_run())
        weakref.finalize(self, self._handle.close)  # a job that failed never comes to its end

    def _or_unmerged(self, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._handle is None:
            return forward(*args, **kwargs)
        return self._handle.or_unmerged(forward, *args, **kwargs)


def clear() -> None:
    """Take off what a job left that failed."""
    network = getattr(getattr(shared.sd_model, "model", None), "diffusion_model", None)  # without a model there is none
    if isinstance(network, nn.Module):
        close_handles(network)


def family() -> str | None:
    """Return the family of the loaded model; None where it is none that merges."""
    try:
        return find_family(_network())
    except (ValueError, AttributeError):  # no UNet, or no model yet
        return None


def _network() -> nn.Module:
    return shared.sd_model.model.diffusion_model
