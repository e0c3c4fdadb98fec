"""From readings to figures, by hand."""

import math
from dataclasses import replace

import pytest

from tome_core.bench.clock import Spread
from tome_core.bench.judge import ColourFit, Found, Score, ShapeFit
from tome_core.bench.quality.figures import Fidelity, MethodFigures, Readings, method_figures

EXTRA = (Found(ColourFit("red", 0.0, 0.0, 1.0), ShapeFit("square", 0.99, 0.1, 0.0, 0.5, 0.5, 0.3)),)
RIGHT, LEAKED, MISSING = Score(("right", "right"), ()), Score(("right", "leaked"), ()), Score(("right", "missing"), ())
NEAR = Fidelity(30.0, 0.9, 0.1, 0.01)
EQUAL = Fidelity(math.inf, 1.0, 0.0, 0.0)
TIME = Spread(0.9, 0.8, 1.0)


@pytest.fixture
def found(new_cases) -> MethodFigures:
    """Two prompts of four pictures each."""
    untouched = Readings([RIGHT, RIGHT, RIGHT, LEAKED, RIGHT, RIGHT, MISSING, MISSING], [])
    merged = Readings(
        [RIGHT, LEAKED, LEAKED, LEAKED, RIGHT, RIGHT, MISSING, Score(("right", "right"), EXTRA)],
        [NEAR] * 3 + [EQUAL] + [replace(NEAR, psnr=20.0)] * 4,
    )
    return method_figures("ours", "method", new_cases(8), merged, untouched, TIME)


def test_shares_are_of_all_pictures_and_the_binding_error_is_of_those_with_all_shapes(found):
    told = found.as_dict()
    assert (told["fully_right"], told["presence"], told["binding_error"]) == (3 / 8, 7 / 8, 3 / 7)
    assert (told["leaked"], told["swapped"], told["wrong"]) == (3 / 8, 0, 0)
    assert (told["missing"], told["extra"], told["unsure"]) == (1 / 8, 1 / 8, 0)


def test_figures_are_summed_up_by_prompt(found):
    assert found.tallies["binding_error"].over.tolist() == [3, 0]
    assert found.tallies["binding_error"].of.tolist() == [4, 3]


def test_the_distance_in_decibels_leaves_out_pictures_that_are_equal(found):
    told = found.as_dict()
    assert told["psnr_db"] == pytest.approx((3 * 30 + 4 * 20) / 7)
    assert told["ssim"] == pytest.approx((7 * 0.9 + 1) / 8)
    assert told["equal_to_untouched"] == 1


def test_differences_are_to_the_untouched_pictures_of_the_same_prompts(found):
    told = found.as_dict()["against_untouched"]
    assert list(told) == ["fully_right", "presence", "binding_error"]
    assert told["fully_right"]["difference"] == pytest.approx(3 / 8 - 5 / 8)
    assert told["binding_error"]["difference"] == pytest.approx(3 / 7 - 1 / 6)
    assert 0 < told["fully_right"]["p"] <= 1


def test_a_report_names_the_method_its_part_its_time_and_an_interval_for_every_figure(found):
    told = found.as_dict()
    assert (told["method"], told["role"], told["pictures"]) == ("ours", "method", 8)
    assert (told["time_ratio"], told["time_ratio_min"], told["time_ratio_max"]) == (0.9, 0.8, 1.0)
    assert set(told["intervals"]) == set(found.tallies)
    low, high = told["intervals"]["fully_right"]
    assert low <= told["fully_right"] <= high


def test_without_a_judge_only_distances_are_told(new_cases):
    told = method_figures("ours", "method", new_cases(4), Readings([], [NEAR] * 4), Readings([], []), TIME).as_dict()
    assert (told["fully_right"], told["binding_error"], told["against_untouched"]) == (None, None, {})
    assert told["ssim"] == 0.9


def test_the_baseline_has_no_distance_to_itself(new_cases):
    readings = Readings([RIGHT] * 4, [])
    told = method_figures("untouched", "baseline", new_cases(4), readings, readings, TIME).as_dict()
    assert (told["fully_right"], told["psnr_db"], told["against_untouched"]) == (1, None, {})
