"""Where a UNet in the original layout (`input_blocks`, `middle_block`, `output_blocks`) has its transformer blocks.

ComfyUI's UNet, that of the Forge family and A1111's are of this layout. Classes are known by their names, so that
nothing here needs a host.
"""

from collections.abc import Iterator

from torch import Tensor, nn

from ...errors import UnsupportedModelError
from ...unet_walk import module_list, original_stages
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

SUPPORTED = "a UNet of SpatialTransformers (SD 1.x, SD 2.x, SDXL)"

_TOKENS = Argument("x", 0)
_CONTEXT = Argument("context", 1)
_VALUE = Argument("value")  # the hosts give these two by their names, and A1111's attentions have no value
_MASK = Argument("mask")
_SD2_TEXT_WIDTH, _REFINER_TEXT_WIDTH = 1024, 1280


def has_original_layout(network: object) -> bool:
    """Return whether a network is built of `input_blocks` and `output_blocks`."""
    return isinstance(network, nn.Module) and hasattr(network, "input_blocks") and hasattr(network, "output_blocks")


def read_layout(unet: nn.Module) -> Layout:
    """Return where a UNet in the original layout can merge.

    Raises:
        UnsupportedModelError: it has no transformer blocks.
    """
    found = list(_stacks(unet))
    if not found:
        raise UnsupportedModelError(f"model must be {SUPPORTED}, got {type(unet).__name__} without any")
    channels = getattr(unet, "out_channels", None)
    return new_layout(unet, _family(unet, found), found, _TOKENS, latent_channels=channels)


def _family(unet: nn.Module, found: list[FoundStack]) -> str:
    """Return the family by where attention begins and how wide the text is."""
    finest, _, blocks, _ = min(found, key=lambda stack: stack[0])
    width = _text_width(unet.get_submodule(blocks[0].path))
    if finest > 1:
        return "sdxl_refiner" if width == _REFINER_TEXT_WIDTH else "sdxl"
    return "sd2" if width == _SD2_TEXT_WIDTH else "sd1"


def _text_width(block: nn.Module) -> int | None:
    attentions = dict(block.named_children())
    to_k = getattr(attentions.get("attn2", attentions.get("attn1")), "to_k", None)
    weight = getattr(to_k, "weight", None)
    return None if weight is None else weight.shape[1]


def _stacks(unet: nn.Module) -> Iterator[FoundStack]:
    """Yield the SpatialTransformers, as they run.

    Video models have transformers of a class derived from it, and frames among their tokens: they are left alone.
    """
    downsample = 1
    for host_block, name, stage in original_stages(unet):
        for place, layer in stage.named_children():
            kind, path = type(layer).__name__, f"{name}.{place}"
            if kind == "Downsample":
                downsample *= 2
            elif kind == "Upsample":
                downsample //= 2
            elif kind == "SpatialTransformer" and module_list(layer, "transformer_blocks"):
                yield downsample, path, _blocks(layer, path), host_block


def _blocks(transformer: nn.Module, path: str) -> tuple[Block, ...]:
    blocks = enumerate(module_list(transformer, "transformer_blocks"))
    return tuple(_block(block, f"{path}.transformer_blocks.{index}") for index, block in blocks)


def _block(block: nn.Module, path: str) -> Block:
    attentions = [(kind, name) for name, kind in kinds_of_attention(block).items()]
    parts = [Part(kind, f"{path}.{name}", _ATTENTION) for kind, name in attentions]
    return Block(path, _BLOCK, (*parts, Part("mlp", f"{path}.ff", _MLP)))


def _attention_obstacle(module: nn.Module, args: Args, kwargs: Kwargs) -> str | None:
    x, context, mask = (argument.read(args, kwargs) for argument in (_TOKENS, _CONTEXT, _MASK))
    if isinstance(mask, Tensor) and (context is None or context is x or differs_by_query(mask)):
        return MASKED
    return None


# the Forge family adds to the residual stream in place
_BLOCK = CallConvention(_TOKENS, writes_input=True)
_MLP = CallConvention(_TOKENS)
_ATTENTION = CallConvention(_TOKENS, context=_CONTEXT, value=_VALUE, mask=_MASK, obstacle=_attention_obstacle)
