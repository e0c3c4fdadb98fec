"""What moves a net's weights: Muon for matrices and convolutions, AdamW for everything of one dimension."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from .muon import Muon
from .place import ALONE, Place
from .recipe import Recipe

CLIP_NORM = 1.0  # of all gradients together


class Optimisers:
    """Both optimisers of one net, which several processes may move together."""

    def __init__(self, params: Iterable[Parameter], recipe: Recipe, place: Place = ALONE) -> None:
        self.params = [p for p in params if p.requires_grad]
        self.recipe, self.place = recipe, place
        self.muon = Muon((p for p in self.params if p.ndim >= 2), recipe.matrix_lr, rank=place.rank, world=place.world)
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
        self.place.mean(p.grad for p in self.params)
        nn.utils.clip_grad_norm_(self.params, CLIP_NORM)
        self.muon.step()
        self.adamw.step()
