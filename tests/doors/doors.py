"""Every door of the speed room behind one face, so that one test claims the same of each.

Three of them run the same network with the same weights: ComfyUI's protocol, the Forge family's, and plain torch
modules. The one of diffusers has other weights, and levels of the same sizes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from tests.hosts.fake import forge, host
from tome_core.speed import SpeedConfig, SpeedReport, apply_speed, apply_speed_to_module
from tome_core.speed.doors.patcher import find_family, patch_speed
from tome_core.speed.layouts import read_layout

OnStep = Callable[[int], object]


@dataclass
class Merging:
    """A model that merges: `sample` draws with it, and `close` ends it where it is not a clone."""

    sample: Callable[..., Tensor]
    report: SpeedReport
    close: Callable[[], object] = lambda: None


class Patcher:
    """ComfyUI's protocol."""

    name = "patcher"

    def new_model(self) -> Any:
        return host.new_model()

    def network(self, model: Any) -> nn.Module:
        return model.model.diffusion_model

    def sample(self, model: Any, **settings: Any) -> Tensor:
        return host.sample(model, **settings)

    def merge(self, model: Any, config: SpeedConfig) -> Merging:
        clone, report = patch_speed(model, config)
        return Merging(lambda **settings: host.sample(clone, **settings), report)

    def compiled(self, model: Any) -> Any:
        model = model.clone()
        model.add_wrapper_with_key("apply_model", "torch.compile", lambda executor, *given, **named: executor(*given))
        return model

    def family(self, model: Any) -> str:
        return find_family(model)


class Forge(Patcher):
    """The Forge family's: one slot, residuals added in place, no `activations_shape`."""

    name = "forge"

    def new_model(self) -> Any:
        return forge.new_model()

    def sample(self, model: Any, **settings: Any) -> Tensor:
        return forge.sample(model, **settings)

    def merge(self, model: Any, config: SpeedConfig) -> Merging:
        clone, report = patch_speed(model, config)
        return Merging(lambda **settings: forge.sample(clone, **settings), report)

    def compiled(self, model: Any) -> Any:
        model.model._torch_compile_config = {"backend": "eager"}  # as its built-in compiling leaves it
        return model


class Modules(Patcher):
    """A bare network in the original layout, which the same host runs."""

    name = "modules"

    def merge(self, model: Any, config: SpeedConfig) -> Merging:
        handle = apply_speed_to_module(self.network(model), config)

        def sample(**settings: Any) -> Tensor:
            with handle.sampling_run():
                return host.sample(model, **settings)

        return Merging(sample, handle.report, handle.close)

    def compiled(self, model: Any) -> Any:
        self.network(model).compile(backend="eager")
        return model


class Pipeline:
    """What apply_speed needs of a diffusers pipeline."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.unet = UNet2DConditionModel(
            in_channels=4,
            out_channels=4,
            block_out_channels=(16, 16),
            layers_per_block=1,
            norm_num_groups=4,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=12,
            attention_head_dim=4,
        )  # type: ignore[call-arg]
        self.unet.eval().requires_grad_(False)
        self.scheduler = DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            timestep_spacing="trailing",  # from the noisiest level on, as the fake hosts
        )


class Diffusers(Patcher):
    """A diffusers UNet that a pipeline's scheduler runs."""

    name = "diffusers"

    def new_model(self) -> Any:
        return Pipeline()

    def network(self, model: Any) -> nn.Module:
        return model.unet

    @torch.inference_mode()
    def sample(
        self,
        model: Any,
        *,
        size: tuple[int, int] = (16, 16),
        batch: int = 1,
        steps: int = 3,
        seed: int = 0,
        on_step: OnStep | None = None,
    ) -> Tensor:
        scheduler = copy.deepcopy(model.scheduler)  # a run of its own may be between two steps of this one
        scheduler.set_timesteps(steps)
        x = torch.randn(batch, 4, *size, generator=torch.Generator().manual_seed(seed))
        context = torch.cat([host.text(model, number).expand(batch, -1, -1) for number in (2, 1)])
        for step, t in enumerate(scheduler.timesteps):
            if on_step is not None:
                on_step(step)
            negative, positive = model.unet(x.repeat(2, 1, 1, 1), t, context).sample.chunk(2)
            x = scheduler.step(negative + 5 * (positive - negative), t, x).prev_sample
        return x

    def merge(self, model: Any, config: SpeedConfig) -> Merging:
        handle = apply_speed(model, config)
        return Merging(lambda **settings: self.sample(model, **settings), handle.report, handle.close)

    def compiled(self, model: Any) -> Any:
        model.unet.compile(backend="eager")
        return model

    def family(self, model: Any) -> str:
        return read_layout(model.unet).family


DOORS = [Diffusers(), Patcher(), Forge(), Modules()]
