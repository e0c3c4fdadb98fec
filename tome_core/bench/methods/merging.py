"""Our merging as a way to draw: `ours:preset=fast`, `ours:levels=1+2,parts=attention+mlp`, `todo:kv_downsample=3`."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy, deepcopy
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from ... import merging, speed, unet_walk
from ...errors import UserError, as_user_error
from ...presets import SPEED_PRESETS, speed_preset
from ...speed import Matcher, SpeedConfig, SpeedHandle, apply_speed
from ...speed.layouts import read_layout
from ..drawing import sampling
from ..drawing.method import UNTOUCHED, Method, sources
from ..drawing.sampling import Settings, draw
from ..suites import Case


@dataclass(frozen=True)
class Merging(Method):
    """One way to run a denoiser."""

    kind: str  # what is before the colon
    config: SpeedConfig  # what to merge, which comes of the next three on a family of models
    given: tuple[tuple[str, Any], ...] = ()  # the settings that were named beside preset and strength
    preset: str | None = None
    strength: float | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """The kind and its config, with the code that merges."""
        if self.kind == UNTOUCHED:
            return super().identity
        code = sources(*merging.__path__, *speed.__path__, unet_walk.__file__, sampling.__file__)
        return {"kind": self.kind, "config": asdict(self.config), "given": [], "code": code}

    def fitted(self, unet: nn.Module) -> "Merging":
        """Return the method with what its preset says for the family of a model."""
        if self.preset is None:
            return self
        config = chosen_config(dict(self.given), self.preset, self.strength, read_layout(unet).family)
        return replace(self, config=config)

    def on(self, model: Any, cases: Sequence[Case] = ()) -> AbstractContextManager[object]:
        """Return a context in which a UNet, or a pipeline's, runs this way, and after which nothing is left on it."""
        return nullcontext() if self.kind == UNTOUCHED else merge(model, self.config)

    def try_out(self, pipeline: Any, cases: Sequence[Case], settings: Settings) -> list[str]:
        """Draw one step of one picture; return in sentences what has less effect on a whole run than was asked for."""
        whole = copy(pipeline)  # about to draw every step
        whole.scheduler = deepcopy(pipeline.scheduler)
        whole.scheduler.set_timesteps(settings.steps)
        with self.on(whole) as handle:
            draw(pipeline, [cases[0].prompt], [cases[0].seed], replace(settings, steps=1))
        return handle.report.notes if isinstance(handle, SpeedHandle) else []


def merge(model: Any, config: SpeedConfig, matcher: Matcher | None = None) -> SpeedHandle:
    """Return `apply_speed`'s handle. Raises `UserError` for a level that the model lacks."""
    with as_user_error():
        return apply_speed(model, config, matcher=matcher)


def chosen_config(
    given: Mapping[str, Any], preset: str | None, strength: float | None, family: str | None = None
) -> SpeedConfig:
    """Return what a preset, a share of it, and single settings come to on a family of models. Raises `UserError`."""
    with as_user_error():
        if preset is None and strength is not None:
            named = ", ".join(SPEED_PRESETS)
            raise UserError(f"strength must go with a preset, {named}, which it scales; or give ratio")
        if preset is None:
            return SpeedConfig(**given)
        chosen = speed_preset(preset, family, 1.0 if strength is None else strength)
        with as_user_error(f"beside preset {preset}, "):
            return replace(chosen, **given)
