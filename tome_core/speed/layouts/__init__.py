"""Where tokens can merge: a reader for each kind of network. A new kind of network is one more file here."""

from torch import nn

from ...errors import UnsupportedModelError
from . import unet_diffusers, unet_original
from .points import Layout

SUPPORTED = f"{unet_diffusers.SUPPORTED}, or {unet_original.SUPPORTED} in the original layout"


def read_layout(network: object) -> Layout:
    """Return where a network can merge.

    Raises:
        UnsupportedModelError: no reader knows such a network, or it has no transformer blocks.
    """
    if unet_diffusers.has_diffusers_layout(network) and isinstance(network, nn.Module):
        return unet_diffusers.read_layout(network)
    if unet_original.has_original_layout(network) and isinstance(network, nn.Module):
        return unet_original.read_layout(network)
    raise UnsupportedModelError(f"model must be {SUPPORTED}, got {type(network).__name__}")
