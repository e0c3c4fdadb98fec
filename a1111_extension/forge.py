"""Token merging on Forge, reForge and Forge Neo: patchers of ComfyUI's protocol, with one slot for a function."""

from typing import Any

from modules import shared

from tome_core.speed import SpeedReport
from tome_core.speed.doors.patcher import SLOT, find_config, find_family, patch_speed

from .choice import Choose

_SPECTRUM = "spectrum_unet_wrapper"  # the name of the function that Forge Neo's Spectrum puts into the slot


class PatcherSpeed:
    """Merging in the passes of one job: the host makes its patcher anew for each, so nothing stays."""

    merging = None  # no handle: calls carry their plans

    def __init__(self) -> None:
        self.reports: list[SpeedReport] = []
        self._choose: Choose | None = None
        self._before: Any = None

    def start(self, p: Any, choose: Choose) -> None:
        """Merge in the sampling that comes. Raises ValueError where the model or the settings do not allow it."""
        self.stop(p)
        self._forget_unused()  # older hosts ask twice
        self._patch(p, choose)

    def check(self, denoiser: Any) -> None:
        """See before a step that the slot is still ours: another extension may have taken it, a refiner taken over."""
        if self._choose is not None and find_config(_unet(denoiser.p)) is None:
            self._forget_unused()
            self._patch(denoiser.p, self._choose)

    def stop(self, p: Any) -> None:
        """Give the host its own patcher back."""
        if self._before is not None and find_config(_unet(p)) is not None:
            p.sd_model.forge_objects.unet = self._before
        self._choose = self._before = None

    def _forget_unused(self) -> None:
        self.reports = [report for report in self.reports if report.merged_calls + report.untouched_calls]

    def remarks(self, p: Any) -> list[str]:
        """Return what there is to say of other patches that go together with ours."""
        if getattr(_unet(p).model_options.get(SLOT), "__name__", "") == _SPECTRUM:
            return ["Spectrum is on as well: it leaves out model calls, and ToMe merges in those that are left."]
        return []

    def network(self, p: Any) -> Any:
        """Return the UNet that samples; None where the host compiles it."""
        model = _unet(p).model
        return None if getattr(model, "_torch_compile_config", None) else model.diffusion_model

    def _patch(self, p: Any, choose: Choose) -> None:
        self._choose, unet = None, _unet(p)
        config = choose(find_family(unet))
        if not config.is_neutral:
            p.sd_model.forge_objects.unet, report = patch_speed(unet, config)
            self.reports.append(report)
            self._choose, self._before = choose, unet


def clear() -> None:
    """Do nothing: the host makes its patcher anew."""


def family() -> str | None:
    """Return the family of the loaded model; None where it is none that merges."""
    try:
        return find_family(shared.sd_model.forge_objects.unet)
    except (ValueError, AttributeError):  # Forge loads its model at the first job
        return None


def _unet(p: Any) -> Any:
    return p.sd_model.forge_objects.unet
