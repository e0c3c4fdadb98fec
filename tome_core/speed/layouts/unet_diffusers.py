"""Where a diffusers UNet has its transformer blocks, found by a walk and never guessed from counts of tokens.

Classes are known by their names, so that nothing here needs diffusers to be installed.
"""

from collections.abc import Iterator

from torch import Tensor, nn

from ...errors import UnsupportedModelError
from ...unet_walk import module_list
from .points import (
    MASKED,
    Args,
    Argument,
    Block,
    CallConvention,
    FoundStack,
    Kwargs,
    Layout,
    Part,
    differs_by_query,
    kinds_of_attention,
    new_layout,
)

SUPPORTED = "a UNet with down_blocks of BasicTransformerBlocks (SD 1.x, SD 2.x, SDXL), or a pipeline with such a unet"

_TOKENS = Argument("hidden_states", 0)
_CONTEXT = Argument("encoder_hidden_states", 1)
_MASK = Argument("attention_mask", 2)
_BLOCK_MASK, _BLOCK_TEXT_MASK = Argument("attention_mask", 1), Argument("encoder_attention_mask", 3)
_BLOCK_EXTRAS = Argument("cross_attention_kwargs", 5)
_IP_ADAPTER_MASKS = "ip_adapter_masks"
_IP_ADAPTER_MASKED = "IP-Adapter masks depend on the positions of the tokens"
_TAKES_OTHER_KEYS = ("AttnProcessor", "AttnProcessor2_0", "XFormersAttnProcessor", "SlicedAttnProcessor")
_SD2_TEXT_WIDTH, _REFINER_TEXT_WIDTH = 1024, 1280


def has_diffusers_layout(network: object) -> bool:
    """Return whether a network is built of `down_blocks`, as diffusers' UNets and ControlNets are."""
    return isinstance(network, nn.Module) and hasattr(network, "down_blocks")


def read_layout(unet: nn.Module) -> Layout:
    """Return where a diffusers UNet can merge.

    Raises:
        UnsupportedModelError: it has no transformer blocks; the message names the stages that it has.
    """
    found = list(_stacks(unet))
    if not found:
        stages = ", ".join(sorted({type(stage).__name__ for *_, stage in _stages(unet)}))
        raise UnsupportedModelError(f"model must be {SUPPORTED}, got {type(unet).__name__} of {stages}")
    config = getattr(unet, "config", None)
    channels = getattr(config, "out_channels", None)
    return new_layout(unet, _family(config, found), found, _TOKENS, latent_channels=channels)


def _family(config: object, found: list[FoundStack]) -> str:
    """Return the family by where attention begins and how wide the text is."""
    width = getattr(config, "cross_attention_dim", None)
    if min(downsample for downsample, *_ in found) > 1:
        return "sdxl_refiner" if width == _REFINER_TEXT_WIDTH else "sdxl"
    return "sd2" if width == _SD2_TEXT_WIDTH else "sd1"


def _stacks(unet: nn.Module) -> Iterator[FoundStack]:
    for downsample, name, stage in _stages(unet):
        for path, module in stage.named_modules(prefix=name):
            blocks = _blocks(module, path)
            if blocks:
                yield downsample, path, blocks, None


def _blocks(module: nn.Module, path: str) -> tuple[Block, ...]:
    """Return the BasicTransformerBlocks of a Transformer2DModel, none for any other module.

    AnimateDiff's temporal transformers hold the same blocks, but their tokens are frames, which are not for merging.
    """
    if not _is_a(module, "Transformer2DModel"):
        return ()
    inside = enumerate(module_list(module, "transformer_blocks"))
    found = [(f"{path}.transformer_blocks.{i}", block) for i, block in inside if _is_a(block, "BasicTransformerBlock")]
    return tuple(_block(block, name) for name, block in found)


def _block(block: nn.Module, path: str) -> Block:
    attentions = [(kind, name) for name, kind in kinds_of_attention(block).items()]
    parts = [Part(kind, f"{path}.{name}", _ATTENTION[kind]) for kind, name in attentions]
    if "ff" in dict(block.named_children()):
        parts.append(Part("mlp", f"{path}.ff", _MLP))
    return Block(path, _BLOCK, tuple(parts))


def _stages(unet: nn.Module) -> Iterator[tuple[int, str, nn.Module]]:
    """Yield (downsample, name, stage) in the order in which the stages run; a ControlNet has no up_blocks."""
    downsample = 1
    for index, stage in enumerate(module_list(unet, "down_blocks")):
        yield downsample, f"down_blocks.{index}", stage
        downsample *= 2 if module_list(stage, "downsamplers") else 1
    middle = dict(unet.named_children()).get("mid_block")
    if middle is not None:
        yield downsample, "mid_block", middle
    for index, stage in enumerate(module_list(unet, "up_blocks")):
        yield downsample, f"up_blocks.{index}", stage
        downsample //= 2 if module_list(stage, "upsamplers") else 1


def _is_a(module: nn.Module, name: str) -> bool:
    return any(cls.__name__ == name for cls in type(module).__mro__)


def _attention_obstacle(module: nn.Module, args: Args, kwargs: Kwargs) -> str | None:
    mask, context = _MASK.read(args, kwargs), _CONTEXT.read(args, kwargs)
    if isinstance(mask, Tensor) and (context is None or differs_by_query(mask)):
        return MASKED
    return None


def _cross_attention_obstacle(module: nn.Module, args: Args, kwargs: Kwargs) -> str | None:
    if kwargs.get(_IP_ADAPTER_MASKS) is not None:
        return _IP_ADAPTER_MASKED
    return _attention_obstacle(module, args, kwargs) or _foreign_processor(module, args, kwargs)


def _block_obstacle(module: nn.Module, args: Args, kwargs: Kwargs) -> str | None:
    text_mask = _BLOCK_TEXT_MASK.read(args, kwargs)
    if _BLOCK_MASK.read(args, kwargs) is not None or (isinstance(text_mask, Tensor) and differs_by_query(text_mask)):
        return MASKED
    if (_BLOCK_EXTRAS.read(args, kwargs) or {}).get(_IP_ADAPTER_MASKS) is not None:
        return _IP_ADAPTER_MASKED
    if getattr(module, "_chunk_size", None) is not None:
        return "forward chunking cuts its tokens by position"
    if getattr(module, "pos_embed", None) is not None:
        return "its position embedding depends on the positions of the tokens"
    attentions = [child for name, child in module.named_children() if name in ("attn1", "attn2")]
    return next(filter(None, (_foreign_processor(attention, (), {}) for attention in attentions)), None)


def _foreign_processor(module: nn.Module, args: Args, kwargs: Kwargs) -> str | None:
    processor = getattr(module, "processor", None)
    if processor is None or is_plain_processor(processor):
        return None
    return f"its attention processor {type(processor).__name__} may depend on the positions of the tokens"


def is_plain_processor(processor: object) -> bool:
    """Return whether an attention processor is one of diffusers' own that takes tokens in any number and order.

    Others record or edit attention maps, or keep regions apart; diffusers' own for IP-Adapter do so, too.
    """
    kind = type(processor)
    return kind.__module__.split(".")[0] == "diffusers" and "IPAdapter" not in kind.__name__


def _keys_obstacle(module: nn.Module, args: Args, kwargs: Kwargs) -> str | None:
    if getattr(module, "fused_projections", False):
        return "its projections are fused (unfuse_qkv_projections() parts them)"
    processor = getattr(module, "processor", None)
    if processor is not None and type(processor).__name__ not in _TAKES_OTHER_KEYS:
        return f"its attention processor {type(processor).__name__} chooses keys of its own"
    return None


_BLOCK = CallConvention(_TOKENS, obstacle=_block_obstacle)
_MLP = CallConvention(_TOKENS)
_ATTENTION = {
    "attention": CallConvention(
        _TOKENS, context=_CONTEXT, mask=_MASK, obstacle=_attention_obstacle, keys_obstacle=_keys_obstacle
    ),
    "cross_attention": CallConvention(_TOKENS, context=_CONTEXT, mask=_MASK, obstacle=_cross_attention_obstacle),
}
