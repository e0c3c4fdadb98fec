import numpy as np
import pytest
from PIL import Image, ImageDraw

from tome_core.bench.judge import UNSURE
from tome_core.bench.judge.shapes import MOST_RATIO, MOST_STRAY, fit_shape
from tome_core.demo.scene import SHAPES
from training.demo.scene import Thing, coverage

SIDE = 128
CENTRES = ((np.arange(SIDE) + 0.5) / SIDE).astype(np.float32)


def drawn(shape, x=0.5, y=0.5, radius=0.25, angle=0.0):
    return coverage(Thing(shape, "black", x, y, radius, angle, (0.0, 0.0, 0.0)), SIDE)


def polygon(points) -> np.ndarray:
    """A silhouette from corners in units of the side, anti-aliased."""
    image = Image.new("L", (4 * SIDE, 4 * SIDE))
    ImageDraw.Draw(image).polygon([(4 * SIDE * x, 4 * SIDE * y) for x, y in points], fill=255)
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32) / 255


def around(radii, start=-np.pi / 2):
    """Corners about the middle, at equal angles."""
    turns = start + np.arange(len(radii)) * 2 * np.pi / len(radii)
    return [(0.5 + r * np.cos(t), 0.5 + r * np.sin(t)) for r, t in zip(radii, turns, strict=True)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("angle", [-0.3, -0.11, 0.0, 0.2])
@pytest.mark.parametrize(("x", "y", "radius"), [(0.5, 0.5, 0.34), (0.31, 0.62, 0.17), (0.5, 0.4, 0.1)])
def test_every_shape_is_known_at_any_place_size_and_small_angle(shape, angle, x, y, radius):
    fit = fit_shape(drawn(shape, x, y, radius, angle))
    assert fit.shape == shape
    assert (fit.x, fit.y) == pytest.approx((x, y), abs=0.002)


def test_size_is_the_square_root_of_the_area():
    assert fit_shape(drawn("square", radius=0.25)).size == pytest.approx(1.5 * 0.25, abs=0.002)
    assert fit_shape(drawn("circle", radius=0.25)).size == pytest.approx(np.sqrt(np.pi) * 0.86 * 0.25, abs=0.002)


NO_SHAPES = {
    "diamond": around([0.25] * 4),
    "triangle on its tip": around([0.25] * 3, start=np.pi / 2),
    "oblong": [(0.2, 0.25), (0.8, 0.25), (0.8, 0.7), (0.2, 0.7)],
    "ellipse": [(0.5 + 0.35 * np.cos(t), 0.5 + 0.23 * np.sin(t)) for t in np.linspace(0, 2 * np.pi, 60)],
    "half a circle": [(0.5 + 0.3 * np.cos(t), 0.5 + 0.3 * np.sin(t)) for t in np.linspace(0, np.pi, 40)],
    "star of four": around([0.3, 0.138] * 4),
    "star of six": around([0.3, 0.138] * 6),
    "star of five on its head": around([0.3, 0.138] * 5, start=np.pi / 2),
    "square without a corner": [(0.2, 0.2), (0.8, 0.2), (0.8, 0.5), (0.5, 0.5), (0.5, 0.8), (0.2, 0.8)],
    "letter T": [(0.2, 0.2), (0.8, 0.2), (0.8, 0.4), (0.6, 0.4), (0.6, 0.8), (0.4, 0.8), (0.4, 0.4), (0.2, 0.4)],
    "right angle": [(0.2, 0.2), (0.2, 0.8), (0.8, 0.8)],
}


@pytest.mark.parametrize("points", NO_SHAPES.values(), ids=NO_SHAPES.keys())
def test_a_figure_that_was_not_taught_is_unsure(points):
    assert fit_shape(polygon(points)).shape == UNSURE


def test_a_ring_is_no_circle():
    assert fit_shape(drawn("circle", radius=0.3) - drawn("circle", radius=0.12)).shape == UNSURE


def test_fewer_than_one_in_twenty_random_polygons_passes_for_a_shape():
    rng = np.random.default_rng(3)
    named = 0
    for _ in range(200):
        turns = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(5, 10)))
        radii = rng.uniform(0.1, 0.32, len(turns))
        named += fit_shape(polygon(np.c_[0.5 + radii * np.cos(turns), 0.5 + radii * np.sin(turns)])).shape != UNSURE
    assert named < 10


def test_a_square_with_slanted_sides_is_a_square():
    fit = fit_shape(polygon(np.array([(0.358, 0.3), (0.758, 0.3), (0.642, 0.7), (0.242, 0.7)])))
    assert 2 / 3 < fit.ratio < MOST_RATIO
    assert fit.shape == "square"


def test_midway_between_circle_and_square_is_unsure():
    u, v = np.meshgrid(CENTRES * 4 - 2, CENTRES * 4 - 2)
    superellipse = (np.abs(u) ** 3.4 + np.abs(v) ** 3.4 < 1).astype(np.float32)
    fit = fit_shape(superellipse)
    assert fit.stray < MOST_STRAY  # both fit well: it is the ratio that keeps it open
    assert fit.shape == UNSURE


@pytest.mark.parametrize("shape", SHAPES)
def test_stray_is_the_mean_distance_between_the_edges_whatever_the_shape(shape):
    points = ((CENTRES - 0.5) / 0.3).astype(np.float32)
    u, v = np.meshgrid(points, points)
    size = fit_shape(drawn(shape, radius=0.3)).size / 0.3
    for stray in (0.02, 0.03):
        displacement = stray * size * np.sign(np.sin(14 * np.arctan2(v, u)))
        cover = np.clip(0.5 + (displacement - SHAPES[shape](u, v)) * 0.3 * SIDE, 0, 1)
        fit = fit_shape(cover.astype(np.float32))
        assert fit.nearest == shape
        assert fit.stray == pytest.approx(stray, rel=0.25)


def test_a_silhouette_that_fills_the_frame_has_no_shape():
    fit = fit_shape(np.ones((SIDE, SIDE), np.float32))
    assert (fit.nearest, fit.shape, fit.cut) == ("square", UNSURE, 1.0)
