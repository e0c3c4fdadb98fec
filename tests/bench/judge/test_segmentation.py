import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tome_core.bench.judge.segmentation import WORKING_SIDE, contrast, find_objects, pieces, shrink


def flood(mask: np.ndarray) -> np.ndarray:
    """The slow reference: fill one component after the other, in reading order."""
    labels, count = np.zeros(mask.shape, int), 0
    for start in zip(*np.nonzero(mask), strict=True):
        if labels[start]:
            continue
        count += 1
        todo = [start]
        while todo:
            y, x = todo.pop()
            if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x] and not labels[y, x]:
                labels[y, x] = count
                todo += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
    return labels


@settings(max_examples=200)
@given(arrays(bool, (9, 11), elements=st.sampled_from([False] * 9 + [True])))
def test_pieces_are_those_of_a_flood_fill_from_the_top_down(points):
    mask = np.zeros((13, 15), bool)
    for y, x in zip(*np.nonzero(points), strict=True):
        mask[y + 1, x : x + 3] = mask[y : y + 3, x + 1] = True  # a cross, whose middle is its inside
    labels = flood(mask)
    assert [piece.tolist() for piece in pieces(mask)] == [(labels == n).tolist() for n in range(1, labels.max() + 1)]


def test_pieces_that_meet_at_a_corner_alone_are_two():
    mask = np.zeros((8, 8), bool)
    mask[1:4, 1:4] = mask[4:7, 4:7] = True
    assert [piece.sum() for piece in pieces(mask)] == [9, 9]


@pytest.mark.parametrize("side", [64, 100, 128, 256, 300])
def test_a_flat_picture_keeps_its_colour_at_the_working_side(side):
    picture = shrink(np.full((side, side, 3), 51, np.uint8))
    assert picture.shape == (WORKING_SIDE, WORKING_SIDE, 3)
    np.testing.assert_allclose(picture, 0.2, atol=1e-6)


def test_contrast_is_measured_from_the_ground_not_from_white():
    picture = np.full((40, 40, 3), 0.86, np.float32)
    picture[10:20, 10:20] = 0.0
    contrasts = contrast(picture)
    np.testing.assert_allclose(contrasts[:10], 0, atol=1e-6)
    np.testing.assert_allclose(contrasts[10:20, 10:20], 0.86 * 3**0.5, atol=1e-5)


def test_a_picture_without_light_pixels_is_measured_from_white():
    np.testing.assert_allclose(contrast(np.zeros((8, 8, 3), np.float32)), 3**0.5, atol=1e-6)


def test_specks_and_hairlines_are_no_objects_and_a_dot_of_a_tenth_of_the_side_is_one():
    contrasts = np.zeros((WORKING_SIDE, WORKING_SIDE), np.float32)
    contrasts[5:11, 5:11] = 1
    contrasts[60:62] = 1
    contrasts[80:93, 30:43] = 1
    (dot,) = find_objects(contrasts)
    assert dot.sum() == 13 * 13
    assert dot[80:93, 30:43].all()
