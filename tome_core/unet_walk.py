"""What it takes to walk a UNet, whoever looks for what in it."""

from collections.abc import Iterator
from typing import Any

from torch import nn

Block = tuple[str, int]  # as the hosts name it: ("input", 4), ("middle", 0), ("output", 2)


def uncompiled(model: Any) -> Any:
    """Return the module that `torch.compile(module)` has wrapped, any other model as it is."""
    return getattr(model, "_orig_mod", model)


def module_list(module: nn.Module, name: str) -> list[nn.Module]:
    """Return the modules of a ModuleList, none where the module has no such list."""
    found = dict(module.named_children()).get(name)
    return [] if found is None else list(found.children())


def original_network(patcher: object) -> Any:
    """Return what a patcher (ComfyUI's ModelPatcher, Forge's UnetPatcher) runs, whatever it is; None without one."""
    return uncompiled(getattr(getattr(patcher, "model", None), "diffusion_model", None))


def original_stages(unet: nn.Module) -> Iterator[tuple[Block, str, nn.Module]]:
    """Yield the host's name, the module's name and the stage itself, in the order in which the stages run.

    The original layout is that of `input_blocks`, `middle_block` and `output_blocks`, as both hosts have it.
    """
    for index, stage in enumerate(module_list(unet, "input_blocks")):
        yield ("input", index), f"input_blocks.{index}", stage
    middle = dict(unet.named_children()).get("middle_block")
    if middle is not None:
        yield ("middle", 0), "middle_block", middle
    for index, stage in enumerate(module_list(unet, "output_blocks")):
        yield ("output", index), f"output_blocks.{index}", stage


def cross_attentions(unet: nn.Module) -> Iterator[tuple[Block, int, nn.Module, nn.Module]]:
    """Yield the host's block, the number of the transformer block, the transformer and its cross-attention, of each.

    The UNet is in the original layout. Those that have no projections to read are left out.
    """
    for block, _, stage in original_stages(unet):
        for transformer in stage.children():
            for index, inner in enumerate(module_list(transformer, "transformer_blocks")):
                attention = dict(inner.named_children()).get("attn2")
                if attention is not None and hasattr(attention, "to_q") and hasattr(attention, "to_k"):
                    yield block, index, transformer, attention
