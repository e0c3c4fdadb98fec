"""Token merging on diffusers: `apply_speed(pipeline_or_unet, config)`, until `close()` or the end of a `with`."""

from typing import Any

from torch import nn

from ...errors import UnsupportedModelError
from ...unet_walk import uncompiled
from ..config import SpeedConfig, config_or_default
from ..engine.engine import SpeedEngine
from ..layouts.points import Argument
from ..layouts.unet_diffusers import SUPPORTED, has_diffusers_layout, read_layout
from ..layouts.unet_original import has_original_layout
from ..plans.making import Matcher
from .modules import NetworkCall, SpeedHandle, install_handle, refuse_copies
from .schedulers import SchedulerWatch


def apply_speed(model: object, config: SpeedConfig | None = None, *, matcher: Matcher | None = None) -> SpeedHandle:
    """Merge tokens in a diffusers model from now on; return the handle that takes it back.

    Bolya & Hoffman 2023, "Token Merging for Fast Stable Diffusion". The model is changed in place, by hooks alone: its
    classes, methods, attributes and weights stay as they are. An earlier merging by this suite on the same UNet is
    closed first; with a neutral config that is all that happens.

    The same model may draw several pictures at once, in threads or one within another: each run has its own plans.

    The model may be compiled, before or after, as a whole or block by block: plans are then made before each call, and
    metric block gives way to estimate. Give the model that was compiled, not what it was made from. If it has run
    already, whatever `torch.compile` made in this process is made anew, as it is after closing; with `fullgraph=True`
    it refuses to run.

    Args:
        model: a pipeline with a `unet`, or the UNet itself (SD 1.x, SD 2.x, SDXL).
        config: what to merge; None for the defaults.
        matcher: a matching of your own, from a metric [B, height * width, C], height, width and the number of tokens to
            merge to a plan. None: the one that the config names.

    Raises:
        TypeError: the config is none, such as a preset's word.
        UnsupportedModelError: the model has no UNet with transformer blocks. Nothing is changed.
        ValueError: the config names a level that the model lacks. Nothing is changed.
    """
    config = config_or_default(config)
    unet = find_unet(model)
    engine = SpeedEngine(config, read_layout(unet), matcher)
    handle = install_handle(unet, getattr(model, "unet", model), engine, SchedulerWatch(model), _CALL)
    if not config.is_neutral and getattr(model, "controlnet", None) is not None:
        handle.report.note("the ControlNet runs on every token, unless apply_speed is given it as well")
    return handle


def find_unet(model: object) -> nn.Module:
    """Return the UNet of a diffusers pipeline, or the model itself if it is one.

    Raises:
        UnsupportedModelError: there is no UNet; the message names what there is.
    """
    unet = uncompiled(getattr(uncompiled(model), "unet", model))
    if isinstance(unet, nn.Module) and has_diffusers_layout(unet):
        return unet
    refuse_copies(unet)
    if has_original_layout(unet):
        hint = "a UNet in the original layout is for apply_speed_to_module"
        raise UnsupportedModelError(f"model must be {SUPPORTED}, got {type(unet).__name__}: {hint}")
    transformer = getattr(model, "transformer", None)
    found = type(model).__name__ + (f" with a transformer {type(transformer).__name__}" if transformer else "")
    raise UnsupportedModelError(f"model must be {SUPPORTED}, got {found}")


def _prediction(output: Any) -> object:
    return output[0] if isinstance(output, tuple) else getattr(output, "sample", None)


_CALL = NetworkCall(Argument("sample", 0), Argument("timestep", 1), Argument("encoder_hidden_states", 2), _prediction)
