"""Token merging on diffusers: `apply_speed(pipeline_or_unet, config)`, until `close()` or the end of a `with`."""

import warnings

from torch import nn

from .block_costs import BlockCosts
from .compiling import drop_compiled_calls, is_compiled
from .config import SpeedConfig, config_or_default
from .diffusers_handle import SpeedHandle
from .diffusers_layout import find_levels, find_unet, text_reaches_first_block
from .diffusers_schedule import SchedulerWatch
from .first_report import new_report
from .guard import Timings
from .level_guard import LevelGuard
from .plan_making import Matcher
from .sentences import cap_sentence
from .state import SpeedState


def apply_speed(
    model: object,
    config: SpeedConfig | None = None,
    *,
    matcher: Matcher | None = None,
    timings: Timings | None = None,
) -> SpeedHandle:
    """Merge tokens in a diffusers model from now on; return the handle that takes it back.

    Bolya & Hoffman 2023, "Token Merging for Fast Stable Diffusion". The model is changed in place, by hooks alone: its
    classes, methods, attributes and weights stay as they are. An earlier merging of ours on the same UNet is closed
    first; with a neutral config that is all that happens.

    The model may be compiled, before or after, as a whole or block by block: plans are then made, and what is left out
    is decided, before each call, and metrics inside the model give way to stem. Give the model that was compiled, not
    what it was made from. If it has run already, whatever `torch.compile` made in this process is made anew, as it is
    after closing; with `fullgraph=True` it refuses to run.

    Args:
        model: a pipeline with a `unet`, or the UNet itself (SD 1.x, SD 2.x, SDXL).
        config: what to merge; None for the defaults.
        matcher: a matching of your own, from a metric [B, height * width, C], height, width and the number of tokens to
            merge to a plan. None: the one that the config names.
        timings: times of your own for the guard, from a level's number and its grid (height, width), in place of
            measuring them here. The same times give the same decisions.

    Raises:
        TypeError: the config is none, such as a preset's word.
        UnsupportedModelError: the model has no UNet with transformer blocks. Nothing is changed.
        ValueError: the config names a level that the model lacks. Nothing is changed.
    """
    config = config_or_default(config)
    unet = find_unet(model)
    levels = find_levels(unet)
    text_is_early = text_reaches_first_block(unet)
    report = new_report(type(unet).__name__, levels, config, text_reaches_first_block=text_is_early)
    if config.exceeds_max_ratio:
        warnings.warn(cap_sentence(config), stacklevel=2)
    state = SpeedState(config, report, matcher=matcher)
    guard = LevelGuard(config, report, levels, matcher, timings) if config.guard else None
    if guard is None and timings is not None:
        report.note("timings have no effect: the guard is off, guard=True turns it on")
    handle = SpeedHandle(config, report, state, SchedulerWatch(model), guard)
    for earlier in _installed_on(unet):
        earlier.close()
    if not config.is_neutral:
        report.costs = BlockCosts(config, tuple(level for level in levels if level.number in config.levels))
        handle._install(unet, levels)
        if any(map(is_compiled, (getattr(model, "unet", model), unet, *levels[0].blocks))):
            drop_compiled_calls()
    return handle


def _installed_on(unet: nn.Module) -> list[SpeedHandle]:
    """Return our handles on a UNet. Its hooks are where they are kept, so that closing leaves no trace anywhere."""
    owners = [getattr(hook, "__self__", None) for hook in unet._forward_pre_hooks.values()]
    return [owner for owner in owners if isinstance(owner, SpeedHandle)]
