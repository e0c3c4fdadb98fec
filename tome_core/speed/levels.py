"""The levels of a UNet and the parts of its transformer blocks, however a door has found them."""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Level:
    """One resolution of the UNet at which it has transformer blocks.

    Attributes:
        number: 1 is the finest such level.
        downsample: latent pixels per token and side.
        transformers: the modules of the level that hold the blocks, in the order in which they run.
        blocks: the transformer blocks of the level, in the order in which they run.
        parts: the names in `SpeedConfig.parts` for what the blocks have.
    """

    number: int
    downsample: int
    transformers: tuple[nn.Module, ...]
    blocks: tuple[nn.Module, ...]
    parts: frozenset[str]

    def grid(self, latent_height: int, latent_width: int) -> tuple[int, int]:
        """Return height and width in tokens; each downsampling rounds up."""
        factor = self.downsample
        return -(-latent_height // factor), -(-latent_width // factor)


def block_parts(block: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the parts of a transformer block by the names in `SpeedConfig.parts` for what they really do in it.

    The flags are what diffusers and the original layout call them, in this order.
    """
    reads_text = getattr(block, "only_cross_attention", False) or getattr(block, "disable_self_attn", False)
    reads_itself = getattr(block, "double_self_attention", False) or getattr(block, "switch_temporal_ca_to_sa", False)
    first = "cross_attention" if reads_text else "attention"
    second = "attention" if reads_itself else "cross_attention"
    modules = dict(block.named_children())
    named = ((first, "attn1"), (second, "attn2"), ("mlp", "ff"))
    return [(part, modules[name]) for part, name in named if name in modules]
