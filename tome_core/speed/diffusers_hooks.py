"""The hooks on one Transformer2DModel: they read its grid, and say what its blocks merge around."""

from torch import nn
from torch.utils.hooks import RemovableHandle

from .config import WHOLE, SpeedConfig
from .diffusers_calls import Args, Kwargs, Site, argument
from .diffusers_layout import block_parts, transformer_blocks
from .diffusers_parts import KeyHooks, PartHooks, SpanWeightHooks
from .diffusers_spans import SpanHooks
from .report import SpeedReport
from .state import SpeedState

_STEPPED_BACK = ("attention", "mlp")  # what merges where a whole block must not


class TransformerHooks:
    """Hooks on one Transformer2DModel and its blocks."""

    def __init__(self, level: int, state: SpeedState, report: SpeedReport) -> None:
        self._site = Site(level, state, report)
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
            self._install_merging(transformer_blocks(transformer), config, hooks)

    def end(self) -> None:
        """End a call that came through."""
        self._site.tell()

    def reset(self) -> None:
        """Forget a call that broke off."""
        self._site.reset()
        for merging in self._merging:
            merging.reset()

    def _install_merging(self, blocks: list[nn.Module], config: SpeedConfig, hooks: list[RemovableHandle]) -> None:
        for span_blocks in _spans(blocks, config):
            span = SpanHooks(config.parts[0], self._site, span_blocks)
            self._merging.append(span)
            span.install(hooks)
        is_whole = config.parts[0] in WHOLE
        parts = _STEPPED_BACK if is_whole else config.parts
        for block in blocks:
            for part, module in block_parts(block):
                if part == "attention" and config.has_own_keys:
                    KeyHooks(self._site).install(module, hooks)
                if part in parts and config.ratio_of(part) > 0:
                    weighs = part == "attention" and config.weighs_keys and not config.has_own_keys
                    merging = PartHooks(part, self._site, weighs=weighs)
                    self._merging.append(merging)
                    merging.install(module, hooks)
                if part == "attention" and config.weighs_keys and is_whole:
                    SpanWeightHooks(self._site).install(module, hooks)

    def _read_grid(self, module: nn.Module, args: Args, kwargs: Kwargs) -> None:
        hidden_states = argument(args, kwargs, 0, "hidden_states")  # [B, C, height, width]
        self._site.is_checkpointed = bool(getattr(module, "gradient_checkpointing", False))
        is_image = self._site.state.is_active and hidden_states.dim() == 4
        self._site.grid = (hidden_states.shape[2], hidden_states.shape[3]) if is_image else None

    def _observe(self, module: nn.Module, args: Args, kwargs: Kwargs) -> None:
        if self._site.grid is not None:
            hidden_states = argument(args, kwargs, 0, "hidden_states")  # [B, N, C]
            self._site.state.observe(hidden_states.transpose(1, 2).unflatten(2, self._site.grid))


def _spans(blocks: list[nn.Module], config: SpeedConfig) -> list[list[nn.Module]]:
    """Return the blocks of each span that is merged around as a whole."""
    if config.parts == ("stack",):
        return [blocks]
    return [[block] for block in blocks] if config.parts == ("block",) else []
