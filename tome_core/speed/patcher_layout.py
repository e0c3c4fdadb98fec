"""Where a UNet in the original layout (`input_blocks`, `middle_block`, `output_blocks`) has its transformer blocks.

Classes are told by name, so that nothing here needs a host: ComfyUI's UNet and Forge's are both of this layout.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from ..errors import UnsupportedModelError
from ..unet_walk import Block, module_list, original_network, original_stages
from .levels import Level, block_parts

_SUPPORTED = "a UNet of SpatialTransformers (SD 1.x, SD 2.x, SDXL)"
_SD2_TEXT_WIDTH = 1024
_REFINER_TEXT_WIDTH = 1280


@dataclass(frozen=True)
class Place:
    """Where one SpatialTransformer stands.

    Attributes:
        name: of the module within the UNet, such as "input_blocks.4.1".
        block: the name that the host gives its block in each call.
        level: the level that it is at.
        first_part: what `attn1` of its blocks is: "attention", or "cross_attention" where it reads the text as well.
    """

    name: str
    block: Block
    level: int
    first_part: str


@dataclass(frozen=True)
class Layout:
    """The levels of a UNet that have transformers, and where these stand, in the order in which they run."""

    levels: tuple[Level, ...]
    places: tuple[Place, ...]
    text_reaches_first_block: bool


def find_unet(model: object) -> nn.Module:
    """Return the UNet of a patcher (ComfyUI's ModelPatcher, Forge's UnetPatcher).

    Raises:
        UnsupportedModelError: there is none; the message names what there is.
    """
    network = original_network(model)
    if isinstance(network, nn.Module) and hasattr(network, "input_blocks") and hasattr(network, "output_blocks"):
        return network
    found = type(model).__name__ if network is None else type(network).__name__
    hint = "" if network is None else ": merging in transformer models without a UNet (DiT) is not yet possible"
    raise UnsupportedModelError(f"model must be {_SUPPORTED}, got {found}{hint}")


def find_layout(unet: nn.Module) -> Layout:
    """Return the layout of a UNet, its levels numbered from the finest one that has transformers.

    Raises:
        UnsupportedModelError: it has none.
    """
    found = list(_transformers(unet))
    if not found:
        raise UnsupportedModelError(f"model must be {_SUPPORTED}, got {type(unet).__name__} without any")
    downsamples = sorted({downsample for downsample, *_ in found})
    places, levels = [], []
    for downsample, block, name, transformer in found:
        blocks = module_list(transformer, "transformer_blocks")
        number, first_part = downsamples.index(downsample) + 1, block_parts(blocks[0])[0][0]
        places.append(Place(name, block, number, first_part))
    for number, downsample in enumerate(downsamples, start=1):
        transformers = tuple(transformer for factor, *_, transformer in found if factor == downsample)
        blocks = tuple(
            block for transformer in transformers for block in module_list(transformer, "transformer_blocks")
        )
        parts = frozenset(part for block in blocks for part, _ in block_parts(block))
        levels.append(Level(number, downsample, transformers, blocks, parts))
    return Layout(tuple(levels), tuple(places), getattr(unet, "label_emb", None) is not None)


def find_family(model: object) -> str:
    """Return the family of a patcher's model: "sd1", "sd2", "sdxl" or "sdxl_refiner", told by its layers alone.

    Raises:
        UnsupportedModelError: it has no UNet with transformer blocks.
    """
    layout = find_layout(find_unet(model))
    finest = layout.levels[0]
    attention = dict(finest.blocks[0].named_children())
    to_k = attention.get("attn2", attention.get("attn1"))
    weight = getattr(getattr(to_k, "to_k", None), "weight", None)
    width = 0 if weight is None else weight.shape[1]
    if layout.text_reaches_first_block and finest.downsample > 1:
        return "sdxl_refiner" if width == _REFINER_TEXT_WIDTH else "sdxl"
    return "sd2" if width == _SD2_TEXT_WIDTH else "sd1"


def _transformers(unet: nn.Module) -> Iterator[tuple[int, Block, str, nn.Module]]:
    """Yield (downsample, block, name, SpatialTransformer), as they run.

    Video models have transformers of a class derived from it, and frames among their tokens: they are left alone.
    """
    downsample = 1
    for block, name, stage in original_stages(unet):
        for place, layer in stage.named_children():
            kind = type(layer).__name__
            if kind == "Downsample":
                downsample *= 2
            elif kind == "Upsample":
                downsample //= 2
            elif kind == "SpatialTransformer" and module_list(layer, "transformer_blocks"):
                yield downsample, block, f"{name}.{place}", layer
