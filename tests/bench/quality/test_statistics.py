"""Intervals and tests by prompt, against slow ones and in cases with a known answer."""

from itertools import product

import numpy as np
import pytest

from tome_core.bench.quality.statistics import Tally, compare, interval

RNG = np.random.default_rng(5)


def shares(prompts: int, pictures: int, chance: float, seed: int = 1) -> Tally:
    over = np.random.default_rng(seed).binomial(pictures, chance, prompts).astype(float)
    return Tally(over, np.full(prompts, float(pictures)))


def test_a_figure_is_a_ratio_of_sums_and_none_where_nothing_was_counted():
    assert Tally(np.array([1.0, 0.0]), np.array([2.0, 1.0])).value == pytest.approx(1 / 3)
    assert Tally(np.zeros(3), np.zeros(3)).value is None


def test_the_interval_is_that_of_a_plain_loop_over_resampled_prompts():
    tally = Tally(RNG.integers(0, 4, 40).astype(float), RNG.integers(3, 6, 40).astype(float))
    values = []
    for _ in range(4000):
        chosen = RNG.integers(40, size=40)
        values.append(tally.over[chosen].sum() / tally.of[chosen].sum())
    found = interval(tally)
    assert found is not None
    assert found == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.01)


def test_more_pictures_that_say_the_same_of_each_prompt_make_no_interval_narrower():
    tally = shares(30, 1, 0.5)
    fourfold = Tally(4 * tally.over, 4 * tally.of)
    assert interval(fourfold) == interval(tally)
    widths = [high - low for low, high in (interval(tally) or (0, 0), interval(shares(120, 1, 0.5)) or (0, 0))]
    assert widths[1] < 0.7 * widths[0]


def test_an_interval_holds_the_truth_about_as_often_as_it_says():
    held = [low <= 0.4 <= high for low, high in (interval(shares(50, 4, 0.4, seed)) or (0, 0) for seed in range(60))]
    assert 0.85 <= np.mean(held) <= 1


def test_one_prompt_has_no_interval_and_neither_has_what_is_mostly_undefined():
    assert interval(Tally(np.array([1.0]), np.array([2.0]))) is None
    rare = np.zeros(10)
    rare[0] = 1
    assert interval(Tally(rare, rare)) is None


def slow_p(a: Tally, b: Tally) -> float:
    """Return the p-value over every way to exchange two methods within prompts."""

    def difference(swapped) -> float:
        pick = np.array(swapped, bool)
        first = np.where(pick, b.over, a.over).sum() / np.where(pick, b.of, a.of).sum()
        second = np.where(pick, a.over, b.over).sum() / np.where(pick, a.of, b.of).sum()
        return abs(first - second)

    ways = [difference(swapped) for swapped in product((0, 1), repeat=len(a.over))]
    return float(np.mean([way >= ways[0] - 1e-12 for way in ways]))


@pytest.mark.parametrize("is_ratio", [False, True])
def test_the_p_value_is_that_of_all_exchanges(is_ratio):
    first = Tally(np.array([3, 4, 2, 4, 3, 1, 4, 2.0]), np.full(8, 4.0))
    other = Tally(np.array([1, 2, 2, 3, 1, 2, 2, 1.0]), np.array([4, 3, 4, 4, 2, 4, 4, 3.0]) if is_ratio else first.of)
    assert compare(first, other).p == pytest.approx(slow_p(first, other), abs=0.015)


def test_equal_methods_do_not_differ():
    found = compare(shares(20, 4, 0.5), shares(20, 4, 0.5))
    assert (found.difference, found.interval, found.p) == (0, (0, 0), 1)


def test_a_plain_difference_is_seen_and_its_interval_excludes_nought():
    found = compare(shares(60, 4, 0.8), shares(60, 4, 0.3, seed=2))
    assert found.difference is not None and found.p is not None and found.interval is not None
    assert found.difference == pytest.approx(0.5, abs=0.1)
    assert found.interval[0] > 0.3
    assert found.p == pytest.approx(1 / 10_001)


def test_where_nothing_differs_small_p_values_are_rare():
    values = [compare(shares(30, 4, 0.5, 2 * i), shares(30, 4, 0.5, 2 * i + 1)).p or 0 for i in range(30)]
    assert np.mean(np.array(values) < 0.05) <= 0.15


def test_pairing_by_prompt_finds_what_the_prompts_own_spread_would_hide():
    """Every prompt gains one picture of four, while prompts differ from none right to three right."""
    before = Tally(np.tile([0.0, 1, 2, 3], 5), np.full(20, 4.0))
    found = compare(Tally(before.over + 1, before.of), before)
    assert found.interval == pytest.approx((0.25, 0.25))
    assert found.p is not None and found.p < 0.001


def test_a_figure_that_is_not_defined_is_not_compared():
    found = compare(Tally(np.zeros(3), np.zeros(3)), shares(3, 4, 0.5))
    assert (found.difference, found.interval, found.p) == (None, None, None)


def test_other_prompts_are_refused():
    with pytest.raises(ValueError, match="baseline must be of 3 prompts, got 4"):
        compare(shares(3, 4, 0.5), shares(4, 4, 0.5))


def test_the_same_figures_give_the_same_statistics():
    assert compare(shares(20, 4, 0.6), shares(20, 4, 0.5)) == compare(shares(20, 4, 0.6), shares(20, 4, 0.5))
