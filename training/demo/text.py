"""Stage one: a small CLIP. Text and picture towers trained contrastively (Radford et al. 2021), then frozen."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tome_core.checkpoints.tokenizer import clip_tokenizer
from tome_core.demo.architecture import PICTURE_SIZE, ContrastivePair, seeded, to_unit
from training.demo.scene import Scene, held_out, random_scene, render

from .captions import caption
from .recipe import Recipe, Stream
from .stage import Stage

SHORTENED = 24  # tokens that training sees: rows after the end token cannot reach it through the causal mask


def train_text(folder: Path, recipe: Recipe, device: str, *, writes: bool) -> ContrastivePair:
    """Train both towers on pictures drawn on the fly, or take up where the folder's states stand.

    First on random scenes, which teaches the words but leaves a bag of them; then with twins in each batch, whose
    colours are swapped between the same shapes, so that captions must also tell which colour belongs to which shape
    (negatives as in Yuksekgonul et al. 2023, drawn instead of mined). The second part is short, so that the tower stays
    as unsure of that as CLIP's own towers are: with four times as many samples it hardly errs any more.
    """
    with seeded(recipe.seed):
        pair = ContrastivePair().to(device)
    tokenizer = clip_tokenizer()
    parts = (("text", recipe.text_samples, random_scenes), ("text-twins", recipe.twin_samples, scenes_with_twins))
    for index, (name, samples, draw) in enumerate(parts):
        steps = samples // recipe.text_batch
        optimiser = torch.optim.AdamW(pair.parameters(), lr=recipe.text_lr, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.text_lr, total_steps=steps, pct_start=0.05)
        stage = Stage(folder, name, steps, {"pair": pair, "optimiser": optimiser, "schedule": schedule}, writes=writes)
        stage.resume()
        for step in stage.run():
            rng = recipe.generator(Stream.TEXT, index, step)
            loss = pair(*_batch(tokenizer, draw(rng, recipe.text_batch), rng, device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            stage.losses.append(loss.item())
    return pair.eval().requires_grad_(False)


def _batch(tokenizer: Any, scenes: list[Scene], rng: np.random.Generator, device: str) -> tuple[Tensor, Tensor]:
    """Return token ids [B, SHORTENED] of captions, and pictures [B, 3, 64, 64] in [-1, 1]."""
    texts = [caption(scene, rng) for scene in scenes]
    tokens = tokenizer(texts, padding="max_length", return_tensors="pt").input_ids[:, :SHORTENED]
    pictures = np.stack([render(scene, PICTURE_SIZE) for scene in scenes])
    return tokens.to(device), to_unit(pictures).to(device)


def random_scenes(rng: np.random.Generator, count: int) -> list[Scene]:
    """Return `count` scenes that have nothing to do with each other."""
    return [random_scene(rng) for _ in range(count)]


def scenes_with_twins(rng: np.random.Generator, count: int) -> list[Scene]:
    """Return `count` scenes, about half of them in pairs of twins with colours swapped; none with a held-out pair."""
    scenes: list[Scene] = []
    while len(scenes) < count // 2:
        scene = random_scene(rng, pair_share=1.0)
        first, second = scene.things
        if not held_out((second.colour, first.shape), (first.colour, second.shape)):
            first, second = (
                replace(first, colour=second.colour, rgb=second.rgb),
                replace(second, colour=first.colour, rgb=first.rgb),
            )
            scenes += [scene, Scene((first, second), scene.ground)]
    return scenes + random_scenes(rng, count - len(scenes))
