"""What a method really does to a model, as the model sees it: the tokens that reach each part, output and memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from ...speed.diffusers_calls import Args, Kwargs, argument
from ...speed.diffusers_layout import find_levels
from ...speed.flops import flop_counter
from ...speed.levels import block_parts
from .memory import peak_memory

Tokens = dict[int, dict[str, set[int]]]  # level -> part -> the counts of tokens that its blocks got


@dataclass(frozen=True)
class Probe:
    """One observed call.

    Attributes:
        output: in float32 on the CPU.
        tokens: those that reached each part.
        flops: its multiply-adds, times 2.
        peak_bytes: the most memory that it took at once, beside the model and what else was there.
    """

    output: Tensor
    tokens: Tokens
    flops: int
    peak_bytes: int

    def merges(self, untouched: "Probe") -> bool:
        """Return whether any part got other tokens than in the untouched model, keys among them."""
        return self.tokens != untouched.tokens


def probe(unet: nn.Module, call: Callable[[], Tensor]) -> Probe:
    """Run one call under observation."""
    tokens: Tokens = {}
    device = next(unet.parameters()).device
    with _counted(unet, tokens), peak_memory(device) as peak, flop_counter() as flops:
        output = call()
    return Probe(output.float().cpu(), tokens, flops.get_total_flops(), peak.bytes)


@contextmanager
def _counted(unet: nn.Module, tokens: Tokens) -> Iterator[None]:
    hooks = []
    try:
        for level in find_levels(unet):
            counts = tokens.setdefault(level.number, {})
            for block in level.blocks:
                for part, module in _watched(block):
                    count = partial(_count, counts.setdefault(part, set()))
                    hooks.append(module.register_forward_pre_hook(count, with_kwargs=True))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _watched(block: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the parts of a block, and beside them what makes the keys of its self-attention."""
    parts = list(block_parts(block))
    return parts + [("keys", module.get_submodule("to_k")) for part, module in parts if part == "attention"]


def _count(counts: set[int], module: nn.Module, args: Args, kwargs: Kwargs) -> None:
    counts.add(argument(args, kwargs, 0, "hidden_states").shape[1])  # [B, N, C]
