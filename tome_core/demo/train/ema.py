"""The running mean of the denoiser's weights, which is what samples best."""

from copy import deepcopy
from typing import Any

import torch
from torch import nn


class Ema:
    """A running mean of a net's weights (`net` holds it), started from the weights themselves."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net, self.decay, self.steps = deepcopy(net).requires_grad_(False), decay, 0

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Move the mean towards the weights of `net`; in the first steps faster than `decay` says."""
        self.steps += 1
        weight = 1 - min(self.decay, self.steps / (self.steps + 10))
        torch._foreach_lerp_(list(self.net.parameters()), list(net.parameters()), weight)

    def state_dict(self) -> dict[str, Any]:
        return {"net": self.net.state_dict(), "steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.net.load_state_dict(state_dict["net"])
        self.steps = state_dict["steps"]
