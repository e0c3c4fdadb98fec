"""Stage three: the denoiser, at a small picture size first, then at the full one."""

from pathlib import Path
from typing import Any

from torch import nn

from ..architecture import build_unet
from .batches import Batches
from .ema import Ema
from .optimisers import Optimisers
from .place import Place
from .pool import Pool, make_pool
from .recipe import DenoiserStage, Recipe, Stream
from .stage import Stage


def train_denoiser(text: nn.Module, autoencoder: Any, folder: Path, recipe: Recipe, place: Place) -> Any:
    """Run all denoiser stages one after the other, each from the weights of the one before; return their mean's net."""
    unet = build_unet(seed=recipe.seed + 2).to(place.device)
    ema, optimisers = Ema(unet, recipe.ema), Optimisers(unet.parameters(), recipe, place)
    batches = Batches(text, recipe)
    pool: Pool | None = None
    for index, plan in enumerate(recipe.denoiser):
        parts = {"unet": unet, "ema": ema, **optimisers.parts()}
        stage = Stage(folder, plan.name, plan.samples // plan.batch, parts, writes=place.writes)
        stage.resume()
        if stage.done == stage.steps:
            continue
        if pool is None or not pool.serves(plan):
            pool = make_pool(autoencoder, plan, recipe, place)
        for step in stage.run():
            rng = recipe.generator(Stream.DENOISER, index, step, place.rank)
            shares = {"noisy_share": plan.noisy_share, "apart_share": plan.apart_share}
            loss = batches.loss(unet, pool, plan.batch // place.world, rng, **shares)
            optimisers.step(loss, _rate(step, stage.steps, plan))
            ema.update(unet)
            stage.losses.append(loss.item())
    return ema.net.eval()


def _rate(step: int, steps: int, plan: DenoiserStage) -> float:
    """Return the learning rate's factor: up to 1 within the warm-up, and in a cool-down from 1 down to 0 besides."""
    return min(1.0, (step + 1) / plan.warm_up) * (1 - step / steps if plan.cool_down else 1.0)
