"""The denoiser's batches: what is drawn, which text rows are hidden, and how the loss is weighed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from tome_core.checkpoints.tokenizer import clip_tokenizer
from tome_core.demo.architecture import LATENT_SCALE, SCHEDULER, end_places, to_unit
from training.demo.scene import Scene, random_scene, render

from .captions import caption
from .optimisers import Worker
from .recipe import NOISY, DenoiserStage, Recipe, Stream

_ENCODED_AT_ONCE = 8  # pictures


@dataclass
class Pool:
    """Pictures encoded beforehand, which samples draw from: scenes, and latents [P, 4, h, w] as the denoiser sees them.

    `size` in pixels; `pictures` over all processes.
    """

    size: int
    pictures: int
    scenes: list[Scene]
    latents: Tensor

    def serves(self, plan: DenoiserStage) -> bool:
        """Return whether a stage would draw and encode the very same pictures."""
        return (plan.size, plan.pool) == (self.size, self.pictures)


@torch.no_grad()
def make_pool(autoencoder: Any, plan: DenoiserStage, recipe: Recipe, worker: Worker) -> Pool:
    """Draw and encode this process's share of a stage's pictures, the same at every start."""
    rng = recipe.generator(Stream.POOL, plan.size, worker.rank)
    scenes = [random_scene(rng) for _ in range(plan.pool // worker.world)]
    starts = range(0, len(scenes), _ENCODED_AT_ONCE)
    latents = []
    for start in tqdm(starts, desc=f"encoding {plan.size} px", disable=not worker.writes, mininterval=5):
        pictures = np.stack([render(scene, plan.size) for scene in scenes[start : start + _ENCODED_AT_ONCE]])
        latents.append(autoencoder.encode(to_unit(pictures).to(worker.device)).latent_dist.mean * LATENT_SCALE)
    return Pool(plan.size, plan.pool, scenes, torch.cat(latents))


class Batches:
    """Draws the batches and weighs their losses."""

    def __init__(self, text: nn.Module, recipe: Recipe) -> None:
        from diffusers import DPMSolverMultistepScheduler

        self.text, self.recipe, self.tokenizer = text, recipe, clip_tokenizer()
        scheduler: Any = DPMSolverMultistepScheduler.from_config(SCHEDULER)
        self.alphas: Tensor = scheduler.alphas_cumprod

    def loss(
        self,
        unet: nn.Module,
        pool: Pool,
        count: int,
        rng: np.random.Generator,
        *,
        noisy_share: float = 0.0,
        apart_share: float = 0.0,
    ) -> Tensor:
        """Return the weighted mean squared error of the predicted noise over `count` samples of a pool.

        noisy_share: share of the samples whose noise level is drawn from `NOISY` on; of the others, from all.
        apart_share: share of the captions of pairs that name both colours after both shapes.
        """
        device = pool.latents.device
        chosen = rng.integers(len(pool.scenes), size=count)
        empty = rng.random(count) < self.recipe.empty_share
        scenes = [pool.scenes[i] for i in chosen]
        texts = ["" if e else caption(s, rng, apart_share=apart_share) for s, e in zip(scenes, empty, strict=True)]
        tokens = self.tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
        keep = kept_rows(tokens, rng, self.recipe).to(device)
        least = np.where(rng.random(count) < noisy_share, NOISY, 0)
        t = torch.from_numpy(rng.integers(least, len(self.alphas)))
        alpha = self.alphas[t].to(device)[:, None, None, None]
        clean = pool.latents[torch.from_numpy(chosen).to(device)]
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32)).to(device)
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        rows = self.text(tokens.to(device)).last_hidden_state  # last layer after its norm, as SD1.5 does
        predicted = unet(noisy, t.to(device), rows, encoder_attention_mask=keep).sample
        snr = (alpha / (1 - alpha)).flatten()
        weight = (snr.clamp(max=self.recipe.min_snr) + self.recipe.noisy_weight) / snr
        return (weight * (predicted - noise).square().mean(dim=(1, 2, 3))).mean()


def kept_rows(tokens: Tensor, rng: np.random.Generator, recipe: Recipe) -> Tensor:
    """Return which text rows the denoiser may see, bool [B, 77], for token ids [B, 77].

    With probability `drop_ends` the end token and all padding are hidden, with `drop_words` each word row is hidden
    with probability 1/2, both at random and apart. The start row, which holds nothing of the prompt, always stays.
    Empty prompts lose nothing.
    """
    keep = np.ones(tokens.shape, dtype=bool)
    for row, end in enumerate(end_places(tokens).tolist()):
        if end == 1:  # an empty prompt
            continue
        if rng.random() < recipe.drop_words:
            keep[row, 1:end] = rng.random(end - 1) < 0.5
        if rng.random() < recipe.drop_ends:
            keep[row, end:] = False
    return torch.from_numpy(keep)
