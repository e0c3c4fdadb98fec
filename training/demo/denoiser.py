"""Stage three: the denoiser, at a small picture size first, then at the full one."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tome_core.demo.architecture import UNET, seeded

from .batches import Batches, Pool, make_pool
from .optimisers import Optimisers, Worker
from .recipe import DenoiserStage, Recipe, Stream
from .stage import Stage


def train_denoiser(text: nn.Module, autoencoder: Any, folder: Path, recipe: Recipe, worker: Worker) -> Any:
    """Run all denoiser stages one after the other, each from the weights of the one before; return their mean's net."""
    unet = build_unet(seed=recipe.seed + 2).to(worker.device)
    ema, optimisers = Ema(unet, recipe.ema), Optimisers(unet.parameters(), recipe, worker)
    batches = Batches(text, recipe)
    pool: Pool | None = None
    for index, plan in enumerate(recipe.denoiser):
        parts = {"unet": unet, "ema": ema, **optimisers.parts()}
        stage = Stage(folder, plan.name, plan.samples // plan.batch, parts, writes=worker.writes)
        stage.resume()
        if stage.done == stage.steps:
            continue
        if pool is None or not pool.serves(plan):
            pool = make_pool(autoencoder, plan, recipe, worker)
        for step in stage.run():
            rng = recipe.generator(Stream.DENOISER, index, step, worker.rank)
            shares = {"noisy_share": plan.noisy_share, "apart_share": plan.apart_share}
            loss = batches.loss(unet, pool, plan.batch // worker.world, rng, **shares)
            optimisers.step(loss, _rate(step, stage.steps, plan))
            ema.update(unet)
            stage.losses.append(loss.item())
    return ema.net.eval()


def build_unet(seed: int) -> Any:
    """Return an untrained denoiser (8.7 M parameters)."""
    from diffusers import UNet2DConditionModel

    with seeded(seed):
        return UNet2DConditionModel(**UNET)


def _rate(step: int, steps: int, plan: DenoiserStage) -> float:
    """Return the learning rate's factor: up to 1 within the warm-up, and in a cool-down from 1 down to 0 besides."""
    return min(1.0, (step + 1) / plan.warm_up) * (1 - step / steps if plan.cool_down else 1.0)


class Ema:
    """A running mean of a net's weights (`net` holds it), which samples best; started from the weights themselves."""

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
