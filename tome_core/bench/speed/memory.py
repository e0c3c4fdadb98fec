"""How much memory a call takes at its peak, beside all that was there before it."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass
class Peak:
    """The most that was held at once, in bytes; 0 until what is watched has come through."""

    bytes: int = 0


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Watch what runs inside on a device; its peak is there when that is over.

    A CUDA device keeps the figure itself. Elsewhere the storages of all new tensors are added up while they live; what
    a kernel takes for itself while it runs is not seen there.
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device) - before
        return
    with _Storages() as storages:
        yield peak
    peak.bytes = storages.most


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
