"""Distances between two pictures, and the tower that is needed for one of them."""

import math
import shutil

import numpy as np
import pytest

from tome_core.bench.drawing.sampling import Drawn
from tome_core.bench.quality.figures import Reader
from tome_core.bench.suites import Case
from tome_core.demo import CHECKPOINT
from tome_core.demo.architecture import HEADS
from tome_core.demo.scene import COLOURS
from training.demo.scene import Scene, Thing, render

CASE = Case((("red", "square"),), "a red square", 0)


def drawn(colour: str, shape: str, x: float = 0.5) -> Drawn:
    scene = Scene((Thing(shape, colour, x, 0.5, 0.25, 0.0, COLOURS[colour]),), (0.95, 0.95, 0.95))
    picture = render(scene, 128)[None]
    return Drawn(picture, np.ones((1, 4, 16, 16), np.float32) * float(picture.mean()))


@pytest.fixture(scope="session")
def reader() -> Reader:
    return Reader(CHECKPOINT, judged=True)


def test_a_picture_is_at_no_distance_from_itself(reader):
    near = reader.fidelity(drawn("red", "square"), drawn("red", "square"))
    assert (near.psnr, near.latent_deviation) == (math.inf, 0)
    assert near.ssim == pytest.approx(1)
    assert near.clip_distance == pytest.approx(0, abs=1e-6)


def test_the_picture_tower_finds_a_moved_object_nearer_than_another_one_where_pixels_do_not(reader):
    first, moved, other = drawn("red", "square", 0.4), drawn("red", "square", 0.62), drawn("blue", "star", 0.4)
    to_moved, to_other = reader.fidelity(moved, first), reader.fidelity(other, first)
    assert to_moved.clip_distance < 0.5 * to_other.clip_distance
    assert to_moved.psnr < to_other.psnr + 3


def test_pictures_are_scored_against_what_their_case_wants_unless_the_judge_cannot_say(reader):
    score = reader.score(CASE, drawn("red", "square"))
    assert score is not None and score.right
    assert Reader(CHECKPOINT, judged=False).score(CASE, drawn("red", "square")) is None


def test_pictures_of_another_model_have_no_distance_in_the_demo_models_tower():
    near = Reader(None, judged=False).fidelity(drawn("red", "square"), drawn("blue", "star"))
    assert near.clip_distance is None
    assert 0 < near.psnr < 40


def test_the_tower_is_the_one_beside_the_weights(tmp_path):
    shutil.copy(HEADS, tmp_path)
    Reader(tmp_path / "own.safetensors", judged=True)
    with pytest.raises(ValueError, match="checkpoint must have the picture tower tome-demo-clip"):
        Reader(tmp_path / "empty" / "own.safetensors", judged=True)
