"""What a method really does to a model, as the model sees it: the tokens that reach each part, output and memory."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from ...speed.layouts import read_layout
from ...speed.layouts.points import Args, Argument, Kwargs

Tokens = dict[int, dict[str, set[int]]]  # level -> part -> the counts of tokens that its blocks got

_TO_K: Final = Argument("input", 0)  # of the layer that makes the keys of an attention


@dataclass(frozen=True)
class Probe:
    """One observed call."""

    output: Tensor  # in float32 on the CPU
    tokens: Tokens  # those that reached each part
    flops: int  # its multiply-adds, times 2
    peak_bytes: int  # the most memory that it took at once, beside the model and what else was there


def probe(unet: nn.Module, call: Callable[[], Tensor]) -> Probe:
    """Run one call under observation."""
    tokens: Tokens = {}
    device = next(unet.parameters()).device
    with _counted(unet, tokens), peak_memory(device) as peak, flop_counter() as flops:
        output = call()
    return Probe(output.float().cpu(), tokens, flops.get_total_flops(), peak())


def flop_counter() -> FlopCounterMode:
    """Return a context that counts what runs in it, as PyTorch counts; its `get_total_flops()` is the number."""
    # torch's counter knows every fused attention but the CPU's, which torch before 2.2 lacks
    cpu_attention = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
    own = {} if cpu_attention is None else {cpu_attention: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)}
    return FlopCounterMode(display=False, custom_mapping=own)


@contextmanager
def _counted(unet: nn.Module, tokens: Tokens) -> Iterator[None]:
    """Inside the block, the tokens that reach each part are counted; "keys" are those of self-attention."""
    hooks, layout = [], read_layout(unet)

    def watch(counts: set[int], path: str, argument: Argument) -> None:
        def count(_: nn.Module, args: Args, kwargs: Kwargs) -> None:
            counts.add(argument.read(args, kwargs).shape[1])  # [B, N, C]

        hooks.append(unet.get_submodule(path).register_forward_pre_hook(count, with_kwargs=True))

    try:
        for level in layout.levels:
            parts = tokens.setdefault(level.number, {})
            for part in (part for block in layout.blocks_of(level.number) for part in block.parts):
                watch(parts.setdefault(part.kind, set()), part.path, part.call.tokens)
                if part.kind == "attention":
                    watch(parts.setdefault("keys", set()), f"{part.path}.to_k", _TO_K)
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], int]]:
    """Watch what runs inside on a device; the function that comes returns the most that was held at once, in bytes.

    A CUDA device keeps the figure itself. Elsewhere the storages of all new tensors are added up while they live; what
    a kernel takes for itself while it runs is not seen there.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield lambda: torch.cuda.max_memory_allocated(device) - before
        return
    with _Storages() as storages:
        yield lambda: storages.most


class _Storages(TorchDispatchMode):
    """Adds up the bytes of the storages that were made while it was on and are still there."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._held = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = [x.untyped_storage() for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                self._take(tensor.untyped_storage(), given)
        return output

    def _take(self, storage: torch.UntypedStorage, given: list[torch.UntypedStorage]) -> None:
        """Count a storage that is neither counted yet nor one of those that an operation was given."""
        if storage in self._known or any(storage is other for other in given):
            return
        self._known.add(storage)
        self._held += storage.nbytes()
        self.most = max(self.most, self._held)
        weakref.finalize(storage, self._drop, storage.nbytes())

    def _drop(self, size: int) -> None:
        self._held -= size
