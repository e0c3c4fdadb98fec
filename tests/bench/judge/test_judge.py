import numpy as np
import pytest

from tests.bench.judge.damage import add_noise, blur, compress, wobble
from tome_core.bench.judge import UNSURE, judge, score
from tome_core.demo.scene import COLOURS, SHAPES
from training.demo.scene import GAP, Scene, Thing, random_scene, render

GROUND = (0.93, 0.92, 0.94)


def thing(colour, shape, x=0.5, y=0.5, radius=0.25, angle=0.0):
    return Thing(shape, colour, x, y, radius, angle, COLOURS[colour])


def drawn(*things, side=256):
    return render(Scene(things, GROUND), side)


def seen(picture):
    return [(found.colour, found.shape) for found in judge(picture)]


def fully_right(scene, picture):
    return score(judge(picture), [(thing.colour, thing.shape) for thing in scene.things]).right


@pytest.mark.parametrize("side", [128, 256])
def test_at_least_99_of_100_clean_renders_are_read_right(side):
    rng = np.random.default_rng(2024)
    scenes = [random_scene(rng) for _ in range(200)]
    right = sum(fully_right(scene, render(scene, side)) for scene in scenes)
    assert right >= 198


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("colour", COLOURS)
def test_every_kind_is_read_alone_with_its_place_and_size(colour, shape):
    (found,) = judge(drawn(thing(colour, shape, 0.4, 0.6, 0.3, 0.1)))
    assert (found.colour, found.shape) == (colour, shape)
    assert (found.shape_fit.x, found.shape_fit.y) == pytest.approx((0.4, 0.6), abs=0.004)
    area = {"circle": np.pi * 0.86**2, "square": 2.25, "triangle": 0.75 * 3**0.5, "cross": 1.696, "star": 1.352}[shape]
    assert found.shape_fit.size == pytest.approx(0.3 * area**0.5, rel=0.02)


def test_the_same_picture_gives_the_same_verdict():
    picture = render(random_scene(np.random.default_rng(4)), 256)
    assert judge(picture) == judge(picture.copy())


# Degraded pictures: right where a person would be, and never a wrong answer where one would not.


def readings(degrade, strength, count):
    """How many of `count` degraded scenes are fully right, and how many are wrong without any doubt shown."""
    rng = np.random.default_rng(11)
    right = wrong = 0
    for _ in range(count):
        scene = random_scene(rng)
        wanted = [(thing.colour, thing.shape) for thing in scene.things]
        result = score(judge(degrade(render(scene, 256), strength, rng)), wanted)
        right += result.right
        wrong += not result.right and not result.unsure
    return right, wrong


@pytest.mark.parametrize(
    ("degrade", "strength"),
    [(blur, 1), (blur, 2), (blur, 3), (add_noise, 0.1), (add_noise, 0.2), (compress, 20), (wobble, 1.5)],
)
def test_mild_damage_leaves_the_reading_right(degrade, strength):
    right, wrong = readings(degrade, strength, 40)
    assert right >= 39
    assert wrong == 0


@pytest.mark.parametrize(("degrade", "strength"), [(wobble, 3), (wobble, 5), (add_noise, 0.5), (blur, 8)])
def test_heavy_damage_makes_the_judge_unsure_and_not_wrong(degrade, strength):
    right, wrong = readings(degrade, strength, 40)
    assert right < 39
    assert wrong <= 1


# What is no scene of the renderer's.


@pytest.mark.parametrize("ground", [GROUND, (1.0, 1.0, 1.0), (0.83, 0.88, 0.86)])
def test_an_empty_picture_has_no_objects(ground):
    assert seen(render(Scene((), ground), 256)) == []


@pytest.mark.parametrize("level", [0, 90])
def test_a_picture_without_a_ground_is_one_object_of_no_known_shape(level):
    ((_, shape),) = seen(np.full((256, 256, 3), level, np.uint8))
    assert shape == UNSURE


def test_pure_noise_holds_no_known_kind():
    picture = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    assert all(UNSURE in kind for kind in seen(picture))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cut", [np.s_[:, 128:], np.s_[122:]], ids=["left and right", "top and bottom"])
def test_an_object_half_red_and_half_blue_is_one_object_of_unsure_colour(shape, cut):
    picture = drawn(thing("red", shape))
    picture[cut] = drawn(thing("blue", shape))[cut]
    assert seen(picture) == [(UNSURE, shape)]


def test_a_faint_shadow_of_a_shape_is_an_object_of_unsure_colour():
    faint = tuple(0.6 * np.array(GROUND) + 0.4 * np.array(COLOURS["red"]))
    assert seen(drawn(Thing("circle", "red", 0.5, 0.5, 0.25, 0.0, faint))) == [(UNSURE, "circle")]


@pytest.mark.parametrize("side", [128, 256])
@pytest.mark.parametrize("overlap", [0.0, 0.005])
def test_touching_objects_of_two_colours_are_two_objects(side, overlap):
    red = thing("red", "square", 0.3, 0.5, 0.22)
    blue = thing("blue", "circle", 0.3 + 0.22 * (0.75 + 0.86) - overlap, 0.5, 0.22)
    assert sorted(seen(drawn(red, blue, side=side))) == [("blue", "circle"), ("red", "square")]


def test_an_object_half_hidden_by_another_keeps_its_colour_and_loses_its_shape():
    picture = drawn(thing("red", "square", 0.35), thing("blue", "circle", 0.6))
    assert sorted(seen(picture)) == [("blue", "circle"), ("red", UNSURE)]


def test_touching_objects_of_one_colour_are_one_object_of_unsure_shape():
    assert seen(drawn(thing("red", "square", 0.3), thing("red", "circle", 0.65))) == [("red", UNSURE)]


def test_close_objects_of_one_colour_are_two_objects():
    circles = [thing("black", "circle", x, 0.5, 0.2) for x in (0.3, 0.3 + 0.4 * 0.86 + GAP)]
    assert seen(drawn(*circles)) == [("black", "circle")] * 2


def test_an_object_cut_by_the_frame_is_unsure():
    assert seen(drawn(thing("red", "square", 0.05))) == [("red", UNSURE)]


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((256, 256, 3), np.float32),
        np.zeros((256, 256), np.uint8),
        np.zeros((256, 256, 4), np.uint8),
        np.zeros((128, 256, 3), np.uint8),
        np.zeros((32, 32, 3), np.uint8),
    ],
)
def test_anything_but_a_square_colour_picture_is_refused(picture):
    with pytest.raises(ValueError, match=r"picture must be uint8 \[S, S, 3\] with S >= 64, got"):
        judge(picture)
