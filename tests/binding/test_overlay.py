"""A map over a picture."""

import numpy as np
import pytest
import torch
from PIL import Image

from tome_core.binding import overlay

PICTURE = Image.fromarray(np.full((40, 60, 3), 128, dtype=np.uint8))


def test_it_is_lightest_where_the_map_is_and_has_the_pictures_size():
    weights = torch.zeros(4, 6)
    weights[:2, :3] = 0.01  # however small, the greatest value is the lightest
    seen = np.asarray(overlay(PICTURE, weights)).astype(int).sum(axis=-1)
    assert seen.shape == (40, 60)
    assert seen[2, 2] > seen[-2, -2] + 200


def test_without_opacity_it_is_the_picture_in_grey():
    colours = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    seen = overlay(colours, torch.rand(2, 2, generator=torch.Generator().manual_seed(0)), opacity=0)
    assert np.array_equal(np.asarray(seen), np.asarray(colours.convert("L").convert("RGB")))


@pytest.mark.parametrize("value", [0, 0.5])
def test_a_map_without_differences_is_dark_all_over(value):
    seen = np.asarray(overlay(PICTURE, torch.full((3, 3), value), opacity=1))
    assert (seen == [20, 20, 60]).all()


@pytest.mark.parametrize("weights", [torch.ones(2), torch.full((2, 2), float("nan")), torch.full((2, 2), -1.0)])
def test_what_is_no_map_is_refused(weights):
    with pytest.raises(ValueError, match=r"weights must be .* of numbers from 0 up, got"):
        overlay(PICTURE, weights)
    with pytest.raises(ValueError, match="opacity must be a number from 0 to 1, got 2"):
        overlay(PICTURE, torch.ones(2, 2), opacity=2)
