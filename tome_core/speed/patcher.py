"""Token merging on the patcher protocol that ComfyUI and Forge share: `patch_speed(model, config)` gives a clone."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from .block_costs import BlockCosts
from .config import SpeedConfig, config_or_default
from .first_report import new_report
from .level_guard import LevelGuard
from .patcher_blocks import plain_levels
from .patcher_function import SLOT, FunctionWrapper
from .patcher_layout import find_family, find_layout, find_unet
from .patcher_wrappers import KEY, SpeedWrappers
from .report import SpeedReport

__all__ = ["Patcher", "find_family", "patch_speed"]

_AROUND_RUN, _AROUND_CALL = "outer_sample", "apply_model"  # as the host names the places of its wrappers


class Patcher(Protocol):
    """What every patcher has. Where it has keyed wrappers as well, as ComfyUI's, these are used."""

    model: Any
    model_options: dict[str, Any]

    def clone(self) -> Any:
        """Return another patcher of the same model."""
        ...


AnyPatcher = TypeVar("AnyPatcher", bound=Patcher)


def patch_speed(
    model: AnyPatcher,
    config: SpeedConfig | None = None,
    *,
    on_end: Callable[[SpeedReport], None] | None = None,
) -> tuple[AnyPatcher, SpeedReport]:
    """Return a clone of a patcher that merges tokens, and the report that fills in as it samples.

    Bolya & Hoffman 2023, "Token Merging for Fast Stable Diffusion". Neither `model` nor the network that it shares with
    its clones is changed. An earlier merging of ours is replaced: with a neutral config what comes back is a plain
    clone. Other packs' patches stay, and see every token; where one of them does not go together with merging, that
    part steps aside and the report says so. It tells of all runs of the clone that are over, and of clones of it.

    Args:
        model: a patcher of a UNet with transformer blocks (SD 1.x, SD 2.x, SDXL).
        config: what to merge; None for the defaults.
        on_end: is called with a report of that run alone when a sampling run is over, also when it failed or was
            interrupted. Forge tells of no runs, and so it is never called there.

    Raises:
        TypeError: the config is none, such as a preset's word.
        UnsupportedModelError: the model has no such UNet, as DiT models.
        ValueError: the config names a level that the model lacks.
    """
    config = config_or_default(config)
    unet = find_unet(model)
    layout = find_layout(unet)
    text_is_early = layout.text_reaches_first_block
    report = new_report(type(unet).__name__, layout.levels, config, text_reaches_first_block=text_is_early)
    clone = model.clone()
    _take_away(clone)
    if not config.is_neutral:
        blocks = plain_levels(layout.levels)
        report.costs = BlockCosts(config, tuple(level for level in blocks if level.number in config.levels))
        guard = LevelGuard(config, report, blocks) if config.guard else None
        ours = SpeedWrappers(config, report, layout, guard, on_end)
        _put_around(clone, ours)
    return clone, report


def _put_around(clone: Any, ours: SpeedWrappers) -> None:
    """Put our wrappers around the runs and calls of a clone, or into the one slot that its host has."""
    if hasattr(clone, "add_wrapper_with_key"):
        clone.add_wrapper_with_key(_AROUND_RUN, KEY, ours.around_run)
        clone.add_wrapper_with_key(_AROUND_CALL, KEY, ours.around_call)
    else:
        clone.model_options[SLOT] = FunctionWrapper(ours, clone.model, clone.model_options.get(SLOT))


def _take_away(clone: Any) -> None:
    """Take an earlier merging of ours off a clone."""
    for wrappers in getattr(clone, "wrappers", {}).values():
        wrappers.pop(KEY, None)
    in_slot = clone.model_options.get(SLOT)
    if isinstance(in_slot, FunctionWrapper):
        clone.model_options[SLOT] = in_slot.other
        if in_slot.other is None:
            del clone.model_options[SLOT]
