"""What blocks that are called as diffusers calls its own merge around: each part, each block, or all in a row."""

from torch import nn
from torch.utils.hooks import RemovableHandle

from .config import WHOLE, SpeedConfig
from .diffusers_parts import KeyHooks, PartHooks, SpanWeightHooks
from .diffusers_spans import SpanHooks
from .levels import block_parts
from .site import Site

_STEPPED_BACK = ("attention", "mlp")  # what merges where a whole block must not


def install_merging(
    blocks: list[nn.Module], config: SpeedConfig, site: Site, hooks: list[RemovableHandle]
) -> list[PartHooks | SpanHooks]:
    """Hook what the blocks of one transformer merge around; return what must be reset when a call breaks off.

    `hooks` gets each hook as soon as it is there.
    """
    merging: list[PartHooks | SpanHooks] = []
    for span_blocks in _spans(blocks, config):
        span = SpanHooks(config.parts[0], site, span_blocks)
        merging.append(span)
        span.install(hooks)
    is_whole = config.parts[0] in WHOLE
    parts = _STEPPED_BACK if is_whole else config.parts
    for block in blocks:
        for part, module in block_parts(block):
            if part == "attention" and config.has_own_keys:
                KeyHooks(site).install(module, hooks)
            if part in parts and config.ratio_of(part) > 0:
                weighs = part == "attention" and config.weighs_keys and not config.has_own_keys
                hooked = PartHooks(part, site, weighs=weighs)
                merging.append(hooked)
                hooked.install(module, hooks)
            if part == "attention" and config.weighs_keys and is_whole:
                SpanWeightHooks(site).install(module, hooks)
    return merging


def _spans(blocks: list[nn.Module], config: SpeedConfig) -> list[list[nn.Module]]:
    """Return the blocks of each span that is merged around as a whole."""
    if config.parts == ("stack",):
        return [blocks]
    return [[block] for block in blocks] if config.parts == ("block",) else []
