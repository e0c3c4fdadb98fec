import numpy as np
import torch

from training.demo.batches import kept_rows
from training.demo.recipe import Recipe

START, END = 49406, 49407


def tokens(words: int, count: int) -> torch.Tensor:
    rows = torch.full((count, 77), END)
    rows[:, 0] = START
    rows[:, 1 : 1 + words] = 320
    return rows


def test_nothing_is_hidden_when_nothing_is_dropped():
    assert kept_rows(tokens(4, 8), np.random.default_rng(0), Recipe(drop_ends=0.0, drop_words=0.0)).all()


def test_dropped_ends_hide_the_end_token_and_all_padding_but_no_word():
    keep = kept_rows(tokens(4, 8), np.random.default_rng(0), Recipe(drop_ends=1.0, drop_words=0.0))
    assert keep[:, :5].all() and not keep[:, 5:].any()


def test_dropped_words_leave_about_half_of_them_and_every_other_row():
    keep = kept_rows(tokens(10, 200), np.random.default_rng(0), Recipe(drop_ends=0.0, drop_words=1.0))
    assert keep[:, 0].all() and keep[:, 11:].all()
    assert 0.45 < keep[:, 1:11].float().mean() < 0.55


def test_the_empty_prompt_loses_nothing():
    assert kept_rows(tokens(0, 50), np.random.default_rng(0), Recipe(drop_ends=1.0, drop_words=1.0)).all()


def test_shares_are_those_of_the_recipe():
    recipe = Recipe(drop_ends=0.3, drop_words=0.2)
    keep = kept_rows(tokens(20, 2000), np.random.default_rng(1), recipe)
    assert abs((~keep[:, -1]).float().mean() - 0.3) < 0.03
    assert abs((~keep[:, 1:21]).any(dim=1).float().mean() - 0.2) < 0.03  # of 20 words some are always hit
