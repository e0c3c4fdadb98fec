"""The hooks on one Transformer2DModel: they read its grid, and say what its blocks merge around."""

from functools import partial

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .block_merging import install_merging
from .config import SpeedConfig
from .diffusers_calls import Args, Kwargs, argument
from .diffusers_layout import transformer_blocks
from .diffusers_parts import PartHooks
from .diffusers_spans import SpanHooks
from .level_guard import LevelGuard
from .level_report import Grid
from .report import SpeedReport
from .site import Observation, Site
from .state import SpeedState


class TransformerHooks:
    """Hooks on one Transformer2DModel and its blocks."""

    def __init__(
        self,
        level: int,
        state: SpeedState,
        report: SpeedReport,
        observation: Observation,
        guard: LevelGuard | None = None,
    ) -> None:
        self.level = level
        self._site = Site(level, state, report, observation=observation)
        self._guard = guard
        self._merging: list[PartHooks | SpanHooks] = []

    def install(
        self,
        transformer: nn.Module,
        config: SpeedConfig | None,
        observed: list[nn.Module],
        hooks: list[RemovableHandle],
    ) -> None:
        """Hook the model, its blocks and their parts as a config says, and the blocks whose input plans are made from.

        `hooks` gets each hook as soon as it is there, so that a failure half-way can be undone. Without a config
        nothing here merges.
        """
        hooks.append(transformer.register_forward_pre_hook(self._read_grid, with_kwargs=True))
        for block in observed:
            hooks.append(block.register_forward_pre_hook(self._observe, with_kwargs=True))
        if config is not None:
            self._merging += install_merging(transformer_blocks(transformer), config, self._site, hooks)

    def end(self) -> None:
        """End a call that came through."""
        self._site.tell()

    def leave_out(self, parts: frozenset[str]) -> None:
        """Keep some parts, "keys" among them, from merging in the call that begins."""
        self._site.left_out = parts

    def reset(self) -> None:
        """Forget a call that broke off."""
        self._site.reset()
        for merging in self._merging:
            merging.reset()

    def _read_grid(self, module: nn.Module, args: Args, kwargs: Kwargs) -> None:
        hidden_states = argument(args, kwargs, 0, "hidden_states")  # [B, C, height, width]
        self._site.is_checkpointed = bool(getattr(module, "gradient_checkpointing", False))
        is_image = self._site.state.is_active and hidden_states.dim() == 4
        self._site.grid = (hidden_states.shape[2], hidden_states.shape[3]) if is_image else None
        if is_image and self._guard is not None and not self._site.state.is_ahead:
            text = argument(args, kwargs, 1, "encoder_hidden_states")
            features = self._site.observation.shape if self._site.report.metric != "block" else None
            self._site.left_out = self._guard.left_out(self._site.level, hidden_states, text, features)

    def _observe(self, module: nn.Module, args: Args, kwargs: Kwargs) -> None:
        if self._site.grid is not None and not self._site.state.is_ahead:
            hidden_states = argument(args, kwargs, 0, "hidden_states")  # [B, N, C]
            shape = (hidden_states.shape[2], *self._site.grid)
            self._site.observation.offer(shape, partial(_as_image, hidden_states, self._site.grid))


def _as_image(hidden_states: Tensor, grid: Grid) -> Tensor:
    """Return [B, C, height, width] of tokens [B, N, C]."""
    return hidden_states.transpose(1, 2).unflatten(2, grid)
