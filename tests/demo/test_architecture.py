import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tome_core.checkpoints import clip_tokenizer
from tome_core.demo import load_demo
from tome_core.demo.architecture import ContrastivePair, load_pair, to_unit
from training.demo.scene import render
from training.demo.text import scenes_with_twins


@pytest.fixture(scope="module")
def pair() -> ContrastivePair:
    return load_pair(load_demo().text_encoder)


def test_the_pair_knows_words_well_and_bindings_hardly_better_than_chance(pair: ContrastivePair):
    """As CLIP does; where the text never errs there is nothing for semantic binding to mend."""
    scenes = scenes_with_twins(np.random.default_rng(5), 400)[:200]
    said = [" and ".join(f"a {thing.colour} {thing.shape}" for thing in scene.things) for scene in scenes]
    pictures = to_unit(np.stack([render(scene, 64) for scene in scenes]))
    tokens = clip_tokenizer()(said, padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        texts = F.normalize(pair.embed_text(tokens), dim=-1)
        seen = F.normalize(pair.picture(pictures), dim=-1)
    likeness = seen @ texts.T
    twin = torch.arange(len(scenes)) ^ 1  # twins are neighbours
    true, swapped, other = likeness.diagonal(), likeness[range(len(scenes)), twin], likeness.diagonal(7)
    assert 0.55 < (true > swapped).float().mean() < 0.85
    assert (true[:-7] > other).float().mean() > 0.95
