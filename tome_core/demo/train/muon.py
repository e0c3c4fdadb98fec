"""Muon (Jordan et al. 2024): momentum whose matrix updates are made orthogonal. Convolutions count as matrices.

`torch.optim.Muon` takes matrices alone, and most of a U-Net's weights are convolutions.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Parameter

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic Newton-Schulz iteration, from the publication
ITERATIONS = 5
MOMENTUM = 0.95


class Muon(torch.optim.Optimizer):
    """Take steps of `lr` with orthogonalised Nesterov momentum; parameters need two dimensions or more.

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
