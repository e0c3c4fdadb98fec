"""Figures of the demo model beside a method's time."""

import numpy as np
import pytest

from tome_core.bench.drawing.sampling import Drawn
from tome_core.bench.speed.demo_pictures import _figures


def drawn(*offsets: int) -> Drawn:
    """Return pictures that are off by so many levels of 255 everywhere, and latents of ones."""
    pictures = np.stack([np.full((8, 8, 3), 100 + offset, np.uint8) for offset in offsets])
    return Drawn(pictures, np.ones((len(offsets), 4, 2, 2), np.float32))


def decibels(*offsets: int) -> float | None:
    return _figures(drawn(*offsets), drawn(*[0] * len(offsets))).psnr_db


def test_an_equal_picture_among_others_leaves_the_mean_of_the_others():
    assert decibels(0, 5, 0, 10) == pytest.approx(decibels(5, 10))
    assert decibels(5) == pytest.approx(20 * np.log10(255 / 5), abs=1e-4)


def test_only_pictures_that_are_all_equal_have_no_decibels():
    assert decibels(0, 0) is None
