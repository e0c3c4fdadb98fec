"""One resolution of a UNet at which it has transformer blocks, however a door has found it."""

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
