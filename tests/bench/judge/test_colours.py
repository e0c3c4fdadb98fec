import numpy as np
import pytest

from tome_core.bench.judge import UNSURE
from tome_core.bench.judge.colours import colour_masks, fit_colour, oklab
from tome_core.demo.scene import COLOURS
from training.demo.scene import COLOUR_JITTER


def flat(*rgb: float) -> np.ndarray:
    return np.broadcast_to(np.array(rgb, np.float32), (8, 8, 3))


EVERYWHERE = np.ones((8, 8), bool)


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [
        ((1, 1, 1), (1, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((1, 0, 0), (0.62796, 0.22486, 0.12585)),
        ((0, 0, 1), (0.45201, -0.03246, -0.31153)),
    ],
)
def test_oklab_has_its_published_values(rgb, expected):
    np.testing.assert_allclose(oklab(np.array(rgb, np.float32)), expected, atol=1e-4)


@pytest.mark.parametrize("name", COLOURS)
def test_every_taught_colour_is_named_at_all_corners_of_its_jitter(name):
    corners = np.stack(np.meshgrid(*[(-COLOUR_JITTER, COLOUR_JITTER)] * 3), axis=-1).reshape(-1, 3)
    for corner in corners:
        assert fit_colour(flat(*np.clip(np.array(COLOURS[name]) + corner, 0, 1)), EVERYWHERE).colour == name


@pytest.mark.parametrize(
    ("name", "rgb"),
    [("red", (0.9, 0.35, 0.35)), ("red", (0.6, 0.08, 0.1)), ("yellow", (0.97, 0.9, 0.45)), ("black", (0.2, 0.2, 0.2))],
)
def test_a_paler_or_darker_shade_keeps_its_name(name, rgb):
    assert fit_colour(flat(*rgb), EVERYWHERE).colour == name


NOT_TAUGHT = {
    "orange": (1.0, 0.55, 0.0),
    "pink": (1.0, 0.6, 0.7),
    "brown": (0.5, 0.25, 0.1),
    "cyan": (0.0, 0.8, 0.9),
    "grey": (0.5, 0.5, 0.5),
    "magenta": (0.85, 0.15, 0.6),
    "navy": (0.05, 0.1, 0.4),
}


@pytest.mark.parametrize("rgb", NOT_TAUGHT.values(), ids=NOT_TAUGHT.keys())
def test_a_colour_that_was_not_taught_is_unsure(rgb):
    assert fit_colour(flat(*rgb), EVERYWHERE).colour == UNSURE


def test_the_colour_midway_between_blue_and_purple_is_unsure():
    middle = (np.array(COLOURS["blue"]) + np.array(COLOURS["purple"])) / 2
    assert fit_colour(flat(*middle), EVERYWHERE).colour == UNSURE


def test_a_spot_of_another_colour_leaves_the_name_and_a_third_of_another_colour_takes_it():
    picture = flat(*COLOURS["red"]).copy()
    picture[:1] = COLOURS["green"]
    assert fit_colour(picture, EVERYWHERE).colour == "red"
    picture[:3] = COLOURS["green"]
    assert fit_colour(picture, EVERYWHERE).colour == UNSURE
    assert not fit_colour(picture, EVERYWHERE).pure


def test_masks_by_colour_share_out_the_mask_and_nothing_else():
    picture = flat(*COLOURS["red"]).copy()
    picture[:3] = COLOURS["green"]
    mask = EVERYWHERE.copy()
    mask[:, 0] = False
    masks = colour_masks(picture, mask)
    assert sorted(part.sum() for part in masks) == [21, 35]
    np.testing.assert_array_equal(np.sum(masks, axis=0), mask)
