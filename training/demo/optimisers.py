"""What moves a net's weights: Muon for matrices and convolutions, AdamW for the rest; for one process or several."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import Parameter

from .recipe import Recipe

CLIP_NORM = 1.0  # of all gradients together
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic Newton-Schulz iteration, from the publication
ITERATIONS = 5
MOMENTUM = 0.95


@dataclass(frozen=True)
class Worker:
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


ALONE = Worker(0, 1, "cpu")


class Optimisers:
    """Both optimisers of one net, which several processes may move together."""

    def __init__(self, params: Iterable[Parameter], recipe: Recipe, worker: Worker = ALONE) -> None:
        self.params = [p for p in params if p.requires_grad]
        self.recipe, self.worker = recipe, worker
        matrices = (p for p in self.params if p.ndim >= 2)
        self.muon = Muon(matrices, recipe.matrix_lr, rank=worker.rank, world=worker.world)
        self.adamw = torch.optim.AdamW((p for p in self.params if p.ndim < 2), lr=recipe.vector_lr, weight_decay=0.0)

    def parts(self) -> dict[str, Any]:
        """Return what a stage saves and takes up."""
        return {"matrices": self.muon, "vectors": self.adamw}

    def step(self, loss: Tensor, rate: float) -> None:
        """Move the weights down this process's loss and the others', at `rate` of the full learning rates."""
        self.muon.param_groups[0]["lr"] = self.recipe.matrix_lr * rate
        self.adamw.param_groups[0]["lr"] = self.recipe.vector_lr * rate
        self.muon.zero_grad()
        self.adamw.zero_grad()
        loss.backward()
        self.worker.mean(p.grad for p in self.params)
        nn.utils.clip_grad_norm_(self.params, CLIP_NORM)
        self.muon.step()
        self.adamw.step()


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024): steps of `lr` with orthogonalised Nesterov momentum, for two dimensions or more.

    Convolutions count as matrices; `torch.optim.Muon` takes none, and most of a U-Net's weights are convolutions.
    With a `world` of several processes, each orthogonalises its share of the matrices and all add up the shares.
    """

    def __init__(self, params: Iterable[Parameter], lr: float, *, rank: int = 0, world: int = 1) -> None:
        super().__init__(params, {"lr": lr})
        self.rank, self.world = rank, world

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Move every parameter in place."""
        for group in self.param_groups:
            params: list[Parameter] = [p for p in group["params"] if p.grad is not None]
            shares = [torch.zeros_like(p) for p in params]
            for index, param in enumerate(params):
                direction = self._direction(param)
                if index % self.world == self.rank:
                    shares[index] = orthogonal(direction)
            for param, update in zip(params, self._sum(shares), strict=True):
                param.add_(update.view_as(param), alpha=-group["lr"])

    def _direction(self, param: Parameter) -> Tensor:
        assert param.grad is not None
        buffer: Tensor = self.state[param].setdefault("momentum", torch.zeros_like(param))
        buffer.lerp_(param.grad, 1 - MOMENTUM)
        return param.grad.lerp(buffer, MOMENTUM)

    def _sum(self, shares: list[Tensor]) -> Iterable[Tensor]:
        """Return the sums over all processes, flat; every matrix is zero in all processes but one."""
        if self.world == 1:
            return shares
        flat = torch.cat([share.flatten() for share in shares])
        dist.all_reduce(flat)
        return flat.split([share.numel() for share in shares])


def orthogonal(direction: Tensor) -> Tensor:
    """Return the nearest half-orthogonal matrix, scaled by sqrt(max(1, rows / columns)), by Newton-Schulz.

    direction: [rows, ...], seen as [rows, columns]. The shape is kept, the arithmetic is bfloat16 as published.
    """
    a, b, c = COEFFICIENTS
    x = direction.flatten(1).bfloat16()
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    x = x if wide else x.T
    return x.float().view_as(direction) * max(1.0, x.shape[0] / x.shape[1]) ** 0.5
