"""Where tokens can merge in a network: frozen points, and how the module at each of them is called.

A layout names modules by their paths and holds none of them, so it can be shared, compared and made before any call.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from ..config import Grid

Args = tuple[Any, ...]
Kwargs = dict[str, Any]
Obstacle = Callable[[nn.Module, Args, Kwargs], str | None]  # why a call must get every token; None where it need not


@dataclass(frozen=True)
class Argument:
    """One argument of a forward call.

    Attributes:
        name: its keyword.
        position: its place among the positional ones; None where it is always given by its name.
    """

    name: str
    position: int | None = None

    def read(self, args: Args, kwargs: Kwargs) -> Any:
        """Return the argument, however it was given; None if it was not."""
        if self.position is not None and len(args) > self.position:
            return args[self.position]
        return kwargs.get(self.name)

    def write(self, args: Args, kwargs: Kwargs, value: Any) -> tuple[Args, Kwargs]:
        """Return the arguments of the call with another value of this one."""
        if self.position is not None and len(args) > self.position:
            return (*args[: self.position], value, *args[self.position + 1 :]), kwargs
        return args, {**kwargs, self.name: value}


@dataclass(frozen=True)
class Riding:
    """A tensor that has an entry for each token, such as rotary positions: it is gathered with them.

    Attributes:
        argument: where it is given; a call without it is fine.
        dim: the dimension that counts the tokens. Dimension 0 counts the rows of the batch, or is 1.
    """

    argument: Argument
    dim: int = 1


def no_obstacle(module: nn.Module, args: Args, kwargs: Kwargs) -> str | None:
    """Return None: every call may run on merged tokens."""
    return None


@dataclass(frozen=True)
class CallConvention:
    """How a part, a block or a stack of blocks is called.

    Attributes:
        tokens: [B, N, C], the image tokens, or a joint sequence that holds them.
        image: where the image tokens are in that sequence: they are all of it, or its front, or its back.
        context: [B, L, D], what keys and values of an attention come from; not given, or the tokens themselves, for
            self-attention. None: the module has no such argument.
        value: [B, L, D], what the values alone come from.
        mask: what is added to the logits of an attention, [B, queries or 1, keys].
        riding: what is gathered with the tokens.
        output: the index of the tokens in a tuple that the module returns; None where it returns the tokens alone.
        writes_input: whether the module may add to its input in place.
        obstacle: why a call must get every token.
        keys_obstacle: why the keys of a self-attention must stay those of its queries.
    """

    tokens: Argument
    image: Literal["all", "front", "back"] = "all"
    context: Argument | None = None
    value: Argument | None = None
    mask: Argument | None = None
    riding: tuple[Riding, ...] = ()
    output: int | None = None
    writes_input: bool = False
    obstacle: Obstacle = no_obstacle
    keys_obstacle: Obstacle = no_obstacle


@dataclass(frozen=True)
class Part:
    """A part of a block: `kind` is its name in `SpeedConfig.parts`, `path` that of its module in the network."""

    kind: str
    path: str
    call: CallConvention


@dataclass(frozen=True)
class Block:
    """A transformer block and its parts, in the order in which they run."""

    path: str
    call: CallConvention
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Stack:
    """Transformer blocks in a row, at one resolution.

    Attributes:
        path: the module that runs the blocks.
        level: the number of its level.
        blocks: in the order in which they run.
        image: the argument of that module from which the grid is read, [B, C, height, width]. None: the grid is
            computed from the size of the latent.
        host_block: what hosts of the patcher protocol call the stage that it stands in, such as ("input", 4).
    """

    path: str
    level: int
    blocks: tuple[Block, ...]
    image: Argument | None = None
    host_block: tuple[str, int] | None = None

    def grid(self, args: Args, kwargs: Kwargs) -> Grid | None:
        """Return height and width in tokens of a call; None where the layout does not say, or the call is no image."""
        x: object = None if self.image is None else self.image.read(args, kwargs)
        return (x.shape[2], x.shape[3]) if isinstance(x, Tensor) and x.dim() == 4 else None


@dataclass(frozen=True)
class Level:
    """One resolution at which a network has transformer blocks.

    Attributes:
        number: 1 is the finest such level.
        downsample: latent pixels per token and side.
    """

    number: int
    downsample: int

    def grid(self, latent_height: int, latent_width: int) -> Grid:
        """Return height and width in tokens; each downsampling rounds up."""
        return -(-latent_height // self.downsample), -(-latent_width // self.downsample)


@dataclass(frozen=True)
class Layout:
    """Where a network can merge.

    Attributes:
        network: the name of its class.
        family: "sd1", "sd2", "sdxl", "sdxl_refiner", or another name that presets may use.
        levels: finest first.
        stacks: in the order in which they run.
        latent_channels: of the latent itself in the input of the network; channels behind them (a mask, another
            picture) may differ between the rows of one image. None: all.
    """

    network: str
    family: str
    levels: tuple[Level, ...]
    stacks: tuple[Stack, ...]
    latent_channels: int | None = None

    def check_levels(self, levels: tuple[int, ...]) -> None:
        """Raise `ValueError` where the network lacks one of these levels."""
        numbers = tuple(level.number for level in self.levels)
        if not set(levels) <= set(numbers):
            raise ValueError(f"levels must be among {numbers} on this {self.network}, got {levels}")

    def stacks_of(self, level: int) -> tuple[Stack, ...]:
        """Return the stacks of a level."""
        return tuple(stack for stack in self.stacks if stack.level == level)

    def blocks_of(self, level: int) -> tuple[Block, ...]:
        """Return the blocks of a level, in the order in which they run."""
        return tuple(block for stack in self.stacks_of(level) for block in stack.blocks)

    def parts_of(self, level: int) -> frozenset[str]:
        """Return the kinds of parts that the blocks of a level have."""
        return frozenset(part.kind for block in self.blocks_of(level) for part in block.parts)


FoundStack = tuple[int, str, tuple[Block, ...], tuple[str, int] | None]  # downsample, path, blocks, host's name


def new_layout(
    network: nn.Module, family: str, found: Iterator[FoundStack] | list[FoundStack], image: Argument | None, **more: Any
) -> Layout:
    """Return the layout of stacks that a reader has found in a network, their levels numbered from the finest."""
    rows = list(found)
    downsamples = sorted({downsample for downsample, *_ in rows})
    stacks = [Stack(path, downsamples.index(x) + 1, blocks, image, host) for x, path, blocks, host in rows]
    levels = [Level(number, downsample) for number, downsample in enumerate(downsamples, start=1)]
    return Layout(type(network).__name__, family, tuple(levels), tuple(stacks), **more)


def differs_by_query(mask: Tensor) -> bool:
    """Return whether a mask [B, queries or 1, keys] says other things of one query than of another."""
    return mask.dim() > 2 and mask.shape[-2] != 1


def kinds_of_attention(block: nn.Module) -> dict[str, str]:
    """Return what `attn1` and `attn2` of a block really are, "attention" or "cross_attention", where it has them.

    The flags are those of diffusers and of the original layout.
    """
    reads_text = getattr(block, "only_cross_attention", False) or getattr(block, "disable_self_attn", False)
    reads_itself = getattr(block, "double_self_attention", False) or getattr(block, "switch_temporal_ca_to_sa", False)
    kinds = {
        "attn1": "cross_attention" if reads_text else "attention",
        "attn2": "attention" if reads_itself else "cross_attention",
    }
    modules = dict(block.named_children())
    return {name: kind for name, kind in kinds.items() if name in modules}


MASKED = "its attention mask depends on the positions of the tokens"
