"""Where a UNet in the original layout (`input_blocks`, `middle_block`, `output_blocks`) reads its prompt."""

from collections.abc import Iterator

from torch import nn

from ..errors import UnsupportedModelError

Layers = dict[tuple[str, int, int], nn.Module]  # by the host's names: ("input", 4, 0) is block 4's first transformer


def find_layers(model: object) -> Layers:
    """Return the cross-attentions of a patcher's network.

    Raises:
        UnsupportedModelError: it is no UNet with cross-attention; the message names what there is.
    """
    network = getattr(getattr(model, "model", None), "diffusion_model", None)
    network = getattr(network, "_orig_mod", network)  # compiled
    layers = dict(_layers(network)) if isinstance(network, nn.Module) else {}
    if not layers:
        found = type(model if network is None else network).__name__
        raise UnsupportedModelError(f"model must be a UNet with cross-attention (SD 1.x, SD 2.x, SDXL), got {found}")
    return layers


def _layers(network: nn.Module) -> Iterator[tuple[tuple[str, int, int], nn.Module]]:
    for block, number, stage in _stages(network):
        for transformer in stage.children():
            for index, inner in enumerate(_children(transformer, "transformer_blocks")):
                attention = dict(inner.named_children()).get("attn2")
                names = {} if attention is None else dict(attention.named_children())
                if attention is not None and {"to_q", "to_k"} <= set(names):
                    yield (block, number, index), attention


def _stages(network: nn.Module) -> Iterator[tuple[str, int, nn.Module]]:
    for block in ("input", "output"):
        for number, stage in enumerate(_children(network, f"{block}_blocks")):
            yield block, number, stage
    middle = dict(network.named_children()).get("middle_block")
    if middle is not None:
        yield "middle", 0, middle


def _children(module: nn.Module, name: str) -> list[nn.Module]:
    found = dict(module.named_children()).get(name)
    return [] if found is None else list(found.children())
