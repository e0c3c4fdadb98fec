"""What a compiled call cannot do itself: what is left out is decided, and every plan is made, before it begins."""

from collections.abc import Sequence

from torch import Tensor

from .config import WHOLE
from .diffusers_hooks import TransformerHooks
from .level_guard import LevelGuard
from .levels import Level
from .site import Observation
from .state import SpeedState

_NOTHING: frozenset[str] = frozenset()


def make_ahead(
    sample: Tensor,
    text: Tensor | None,
    levels: Sequence[Level],
    transformers: Sequence[TransformerHooks],
    state: SpeedState,
    observation: Observation,
    guard: LevelGuard | None,
) -> None:
    """Decide of a model call that is compiled, or whose blocks are, as its own hooks would; then make its plans.

    Args:
        sample: [B, C, height, width], the model's input.
        text: [B, L, D].
        levels: those that merge.
        transformers: the hooks of the model.
        state: makes the plans.
        observation: what plans are made from; it is left alone where nothing merges.
        guard: decides; None where everything merges.
    """
    config, height, width = state.config, *sample.shape[2:]
    keys = []
    for level in levels:
        grid = level.grid(height, width)
        left_out = _NOTHING
        if guard is not None:
            left_out = guard.left_out(level.number, _tokens(sample, level, grid), text, observation.shape)
        for hooks in transformers:
            if hooks.level == level.number:
                hooks.leave_out(left_out)
        merging = [part for part in config.merged_parts if config.ratio_of(part) > 0 and part not in left_out]
        keys += [(level.number, grid, part) for part in merging if part in (*level.parts, *WHOLE, "keys")]
    if keys:
        observation.hand_over(state)
    state.make_ahead(keys)


def _tokens(sample: Tensor, level: Level, grid: tuple[int, int]) -> Tensor:
    """Return a tensor of the shape, device and type of what comes to a transformer, without memory of its own."""
    channels = int(getattr(level.transformers[0], "in_channels", sample.shape[1]))
    return sample.new_empty(1).expand(1, channels, *grid)
