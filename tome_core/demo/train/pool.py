"""Pictures encoded beforehand, which the denoiser's samples draw from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..architecture import LATENT_SCALE
from ..pixels import to_unit
from ..scene import Scene, random_scene, render
from .place import Place
from .recipe import DenoiserStage, Recipe, Stream

_AT_ONCE = 8  # pictures


@dataclass
class Pool:
    """Scenes and their latents [P, 4, h, w], scaled as the denoiser sees them; `size` pixels, `pictures` in all."""

    size: int
    pictures: int
    scenes: list[Scene]
    latents: Tensor

    def serves(self, plan: DenoiserStage) -> bool:
        """Return whether a stage would draw and encode the very same pictures."""
        return (plan.size, plan.pool) == (self.size, self.pictures)


@torch.no_grad()
def make_pool(autoencoder: Any, plan: DenoiserStage, recipe: Recipe, place: Place) -> Pool:
    """Draw and encode this process's share of a stage's pictures, the same at every start."""
    rng = recipe.generator(Stream.POOL, plan.size, place.rank)
    scenes = [random_scene(rng) for _ in range(plan.pool // place.world)]
    starts = range(0, len(scenes), _AT_ONCE)
    latents = []
    for start in tqdm(starts, desc=f"encoding {plan.size} px", disable=not place.writes, mininterval=5):
        pictures = np.stack([render(scene, plan.size) for scene in scenes[start : start + _AT_ONCE]])
        latents.append(autoencoder.encode(to_unit(pictures).to(place.device)).latent_dist.mean * LATENT_SCALE)
    return Pool(plan.size, plan.pool, scenes, torch.cat(latents))
