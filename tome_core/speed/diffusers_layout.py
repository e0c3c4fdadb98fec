"""Where a diffusers UNet has its transformer blocks, found by walking it and never guessed from token counts.

Classes are told by name, so that nothing here needs diffusers to be installed, whatever its version calls its modules.
"""

from collections.abc import Iterator

from torch import nn

from ..errors import UnsupportedModelError
from ..unet_walk import module_list, uncompiled
from .levels import Level, block_parts

_SUPPORTED = "a UNet with down_blocks of BasicTransformerBlocks (SD 1.x, SD 2.x, SDXL), or a pipeline with such a unet"


def find_unet(model: object) -> nn.Module:
    """Return the UNet of a diffusers pipeline, or the model itself if it is one.

    Raises:
        UnsupportedModelError: there is no UNet; the message names what there is.
    """
    unet = uncompiled(getattr(uncompiled(model), "unet", model))
    if isinstance(unet, nn.Module) and hasattr(unet, "down_blocks"):
        return unet
    transformer = getattr(model, "transformer", None)
    found = type(model).__name__ + (f" with a transformer {type(transformer).__name__}" if transformer else "")
    raise UnsupportedModelError(f"model must be {_SUPPORTED}, got {found}")


def find_levels(unet: nn.Module) -> tuple[Level, ...]:
    """Return the levels of a UNet that have transformer blocks, finest first.

    Raises:
        UnsupportedModelError: it has none; the message names the blocks that it has.
    """
    found: dict[int, list[nn.Module]] = {}
    for downsample, stage in _stages(unet):
        found.setdefault(downsample, []).extend(m for m in stage.modules() if transformer_blocks(m))
    levels = [(downsample, transformers) for downsample, transformers in sorted(found.items()) if transformers]
    if not levels:
        stages = sorted({type(stage).__name__ for _, stage in _stages(unet)})
        raise UnsupportedModelError(f"model must be {_SUPPORTED}, got {type(unet).__name__} of {', '.join(stages)}")
    return tuple(_new_level(number, *found) for number, found in enumerate(levels, start=1))


def find_family(unet: nn.Module) -> str:
    """Return "sd1", "sd2" or "sdxl", told from where a UNet has attention and how wide its text is.

    Raises:
        UnsupportedModelError: it has no transformer blocks.
    """
    if find_levels(unet)[0].downsample > 1:
        return "sdxl"  # its finest stage has none
    width = getattr(getattr(unet, "config", None), "cross_attention_dim", None)
    return "sd2" if width == 1024 else "sd1"


def first_transformer(unet: nn.Module) -> nn.Module:
    """Return the Transformer2DModel that runs first. Before it, a UNet has mixed in no text by attention."""
    return next(m for _, stage in _stages(unet) for m in stage.modules() if transformer_blocks(m))


def text_reaches_first_block(unet: nn.Module) -> bool:
    """Return whether the time embedding carries text or a class, as SDXL's carries pooled text."""
    return any(getattr(unet, name, None) is not None for name in ("add_embedding", "class_embedding"))


def transformer_blocks(module: nn.Module) -> list[nn.Module]:
    """Return the BasicTransformerBlocks of a Transformer2DModel, none for any other module.

    AnimateDiff's temporal transformers hold the same blocks, but their tokens are frames, which are not for merging.
    """
    if not _is_a(module, "Transformer2DModel"):
        return []
    return [block for block in module_list(module, "transformer_blocks") if _is_a(block, "BasicTransformerBlock")]


def _new_level(number: int, downsample: int, transformers: list[nn.Module]) -> Level:
    blocks = tuple(block for transformer in transformers for block in transformer_blocks(transformer))
    parts = frozenset(name for block in blocks for name, _ in block_parts(block))
    return Level(number, downsample, tuple(transformers), blocks, parts)


def _stages(unet: nn.Module) -> Iterator[tuple[int, nn.Module]]:
    """Yield (downsample, stage) in the order in which the stages run; a ControlNet has no up_blocks."""
    downsample = 1
    for stage in module_list(unet, "down_blocks"):
        yield downsample, stage
        downsample *= 2 if module_list(stage, "downsamplers") else 1
    middle = dict(unet.named_children()).get("mid_block")
    if middle is not None:
        yield downsample, middle
    for stage in module_list(unet, "up_blocks"):
        yield downsample, stage
        downsample //= 2 if module_list(stage, "upsamplers") else 1


def _is_a(module: nn.Module, name: str) -> bool:
    return any(cls.__name__ == name for cls in type(module).__mro__)
