"""Where one of several processes stands, and what they do together."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Place:
    """One of `world` processes; `device` is a torch device."""

    rank: int
    world: int
    device: str

    @property
    def writes(self) -> bool:
        """Whether this process is the one that saves and shows progress."""
        return self.rank == 0

    def mean(self, tensors: Iterable[Tensor | None]) -> None:
        """Replace tensors, in place, by their means over all processes; None is passed over."""
        if self.world == 1:
            return
        present = [tensor for tensor in tensors if tensor is not None]
        flat = torch.cat([tensor.flatten() for tensor in present])
        dist.all_reduce(flat)
        flat /= self.world
        for tensor, mean in zip(present, flat.split([t.numel() for t in present]), strict=True):
            tensor.copy_(mean.view_as(tensor))


ALONE = Place(0, 1, "cpu")
