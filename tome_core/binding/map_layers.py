"""Where a UNet in the original layout reads its prompt."""

from collections.abc import Iterator

from torch import nn

from ..errors import UnsupportedModelError
from ..unet_walk import module_list, original_network, original_stages

Layers = dict[tuple[str, int, int], nn.Module]  # by the host's names: ("input", 4, 0) is block 4's first transformer


def find_layers(model: object) -> Layers:
    """Return the cross-attentions of a patcher's network.

    Raises:
        UnsupportedModelError: it is no UNet with cross-attention; the message names what there is.
    """
    network = original_network(model)
    layers = dict(_layers(network)) if isinstance(network, nn.Module) else {}
    if not layers:
        found = type(model if network is None else network).__name__
        raise UnsupportedModelError(f"model must be a UNet with cross-attention (SD 1.x, SD 2.x, SDXL), got {found}")
    return layers


def _layers(network: nn.Module) -> Iterator[tuple[tuple[str, int, int], nn.Module]]:
    for (block, number), _, stage in original_stages(network):
        for transformer in stage.children():
            for index, inner in enumerate(module_list(transformer, "transformer_blocks")):
                attention = dict(inner.named_children()).get("attn2")
                names = {} if attention is None else dict(attention.named_children())
                if attention is not None and {"to_q", "to_k"} <= set(names):
                    yield (block, number, index), attention
