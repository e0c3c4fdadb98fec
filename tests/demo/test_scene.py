from itertools import combinations

import numpy as np
import pytest

from tome_core.demo.scene import COLOURS, SHAPES
from training.demo.scene import GAP, HELD_OUT_PAIRS, SEEN_PAIRS, Scene, Thing, held_out, random_scene, render

GROUND = (1.0, 1.0, 1.0)


def scene_of(shape: str, radius: float = 0.3) -> Scene:
    return Scene((Thing(shape, "red", 0.5, 0.5, radius, 0.0, COLOURS["red"]),), GROUND)


def test_the_same_generator_state_draws_the_same_picture():
    first, again = (render(random_scene(np.random.default_rng(7)), 64) for _ in range(2))
    assert np.array_equal(first, again)


def test_a_quarter_of_all_pairs_is_held_out_and_no_pair_is_in_both_parts():
    assert (len(SEEN_PAIRS), len(HELD_OUT_PAIRS)) == (225, 75)
    assert not set(SEEN_PAIRS) & set(HELD_OUT_PAIRS)
    for a, b in (*SEEN_PAIRS, *HELD_OUT_PAIRS):
        assert a[0] != b[0] and a[1] != b[1]
    assert all(held_out(a, b) and held_out(b, a) for a, b in HELD_OUT_PAIRS)
    assert not any(held_out(a, b) or held_out(b, a) for a, b in SEEN_PAIRS)


def test_random_scenes_hold_one_or_two_things_apart_from_each_other_and_never_a_held_out_pair():
    rng = np.random.default_rng(0)
    counts = {1: 0, 2: 0}
    for _ in range(400):
        things = random_scene(rng).things
        counts[len(things)] += 1
        for thing in things:
            assert thing.radius + GAP <= min(thing.x, thing.y, 1 - thing.x, 1 - thing.y) + 1e-9
        for a, b in combinations(things, 2):
            assert np.hypot(a.x - b.x, a.y - b.y) > a.radius + b.radius
            assert not held_out((a.colour, a.shape), (b.colour, b.shape))
    assert 0.45 < counts[2] / 400 < 0.65


@pytest.mark.parametrize(
    ("shape", "area"),
    [  # in squared radii, by school geometry
        ("circle", np.pi * 0.86**2),
        ("square", 1.5**2),
        ("triangle", 0.75 * np.sqrt(3)),
        ("cross", 2 * 1.84 * 0.54 - 0.54**2),
        ("star", 10 * 0.5 * 0.46 * np.sin(np.pi / 5)),
    ],
)
def test_each_shape_covers_the_area_of_its_geometry(shape: str, area: float):
    picture = render(scene_of(shape), 256).astype(float) / 255
    covered = (1 - picture[..., 2]) / (1 - COLOURS["red"][2])
    assert covered.sum() / 256**2 == pytest.approx(area * 0.3**2, rel=0.02)


def test_edges_are_anti_aliased_and_the_inside_has_the_things_own_colour():
    picture = render(scene_of("circle"), 128)
    assert np.array_equal(picture[64, 64], np.round(np.array(COLOURS["red"]) * 255).astype(np.uint8))
    assert len(np.unique(picture[..., 1])) > 10


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_a_picture_at_twice_the_size_is_the_same_scene(shape: str):
    small, large = render(scene_of(shape), 64).astype(float), render(scene_of(shape), 128).astype(float)
    halved = large.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert abs(halved - small).mean() < 2
