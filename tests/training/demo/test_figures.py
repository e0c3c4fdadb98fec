import numpy as np
import torch

from tome_core.bench.judge import judge
from tome_core.bench.suites import Case
from tome_core.demo import load_demo
from tome_core.demo.architecture import to_bytes, to_unit
from tome_core.demo.scene import COLOURS, Kind
from training.demo.figures import attribute_figures, object_figures, sheet
from training.demo.scene import Scene, Thing, random_scene, render


def draw(*kinds: Kind) -> np.ndarray:
    places = ((0.3, 0.3), (0.7, 0.7))
    things = (Thing(s, c, x, y, 0.2, 0.0, COLOURS[c]) for (c, s), (x, y) in zip(kinds, places, strict=False))
    return render(Scene(tuple(things), (0.95, 0.95, 0.95)), 128)


RED_SQUARE, BLUE_STAR = ("red", "square"), ("blue", "star")
BOTH = Case((RED_SQUARE, BLUE_STAR), "a red square and a blue star", 0)


def test_object_figures_count_right_and_swapped_pictures_and_give_the_error_as_a_fraction():
    pictures = [draw(RED_SQUARE, BLUE_STAR), draw(("blue", "square"), ("red", "star")), draw(RED_SQUARE)]
    figures = object_figures([BOTH] * 3, pictures)
    assert (figures["count"], figures["present"], figures["binding_error"]) == (3, 2, 0.5)
    assert (figures["fully_right"], figures["swapped"], figures["missing"]) == (1 / 3, 1 / 3, 1 / 3)


def test_the_binding_error_is_none_where_no_picture_has_all_objects():
    assert object_figures([BOTH], [draw(RED_SQUARE)])["binding_error"] is None


def test_attribute_figures_ask_for_the_colour_whatever_its_shape():
    cases = [Case((RED_SQUARE,), "a red square", seed) for seed in range(4)]
    pictures = [draw(RED_SQUARE), draw(("red", "star")), draw(("blue", "square")), draw()]
    figures = attribute_figures(cases, pictures)
    assert (figures["count"], figures["attribute"]) == (4, 0.5)


def test_every_figure_has_an_interval_by_prompt():
    other = Case((RED_SQUARE,), "a red square", 1)
    figures = object_figures([BOTH, BOTH, other], [draw(RED_SQUARE, BLUE_STAR), draw(RED_SQUARE), draw(RED_SQUARE)])
    low, high = figures["intervals"]["fully_right"]
    assert low <= figures["fully_right"] <= high
    assert attribute_figures([other] * 2, [draw(RED_SQUARE)] * 2)["intervals"] == {"attribute": None}  # one prompt


def test_a_sheet_shows_ten_pictures_a_row_and_white_where_there_is_none():
    image = np.asarray(sheet([draw(RED_SQUARE)] * 12))
    assert image.shape == (2 * 128, 10 * 128, 3)
    assert np.array_equal(image[128:, 128:256], draw(RED_SQUARE))
    assert (image[128:, 256:] == 255).all()


@torch.no_grad()
def test_the_judge_reads_pictures_that_went_through_the_autoencoder():
    vae, rng = load_demo().vae, np.random.default_rng(2)
    scenes = [random_scene(rng) for _ in range(50)]
    right = 0
    for scene in scenes:
        x = to_unit(render(scene, 256)[None])
        picture = to_bytes(vae.decode(vae.encode(x).latent_dist.mean).sample)[0]
        found = sorted((thing.colour, thing.shape) for thing in judge(picture))
        right += found == sorted((thing.colour, thing.shape) for thing in scene.things)
    assert right >= 49
