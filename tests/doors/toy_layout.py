"""Where a toy diffusion transformer can merge: the one file that a new kind of network takes."""

from __future__ import annotations

from torch import nn

from tome_core.speed.layouts.points import (
    Argument,
    Block,
    CallConvention,
    Layout,
    Level,
    Part,
    Riding,
    Stack,
)

_POSITIONS = Riding(Argument("positions"), dim=1)
_DOUBLE = CallConvention(Argument("image"), riding=(_POSITIONS,), output=1)
_SINGLE = CallConvention(Argument("x", 0), image="back", riding=(_POSITIONS,))
_MLP = CallConvention(Argument("x", 0), image="back")


def read_layout(network: nn.Module) -> Layout:
    """Return where a `ToyTransformer` can merge: its double blocks, then its single ones, at one resolution."""
    double = tuple(Block(f"double_blocks.{i}", _DOUBLE, ()) for i in range(_length(network, "double_blocks")))
    single = tuple(_single_block(f"single_blocks.{i}") for i in range(_length(network, "single_blocks")))
    stacks = (Stack("double_blocks", 1, double), Stack("single_blocks", 1, single))
    return Layout("ToyTransformer", "toy", (Level(1, 1),), stacks)


def _single_block(path: str) -> Block:
    return Block(path, _SINGLE, (Part("mlp", f"{path}.mlp", _MLP),))


def _length(network: nn.Module, name: str) -> int:
    return len(list(network.get_submodule(name).children()))
