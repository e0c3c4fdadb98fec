"""Whether merging pays, decided by times that are given."""

import math
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tome_core.speed import Curve, LevelTimes, SpeedConfig, Verdict, apply_speed
from tome_core.speed.level_guard import LevelGuard

Guarded = partial(SpeedConfig, guard=True, metric="stem")


def times(untouched: float = 1.0, merged: float = 0.5, matching: float = 0.1, parts=("attention",)) -> LevelTimes:
    """Return times that are the same for any number of tokens."""
    return LevelTimes(dict.fromkeys(parts, Curve(untouched)), dict.fromkeys(parts, Curve(merged)), Curve(matching))


PAYS, COSTS = times(), times(merged=1.0)


class Operations(TorchDispatchMode):
    """Lists every operation that is dispatched, views too."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "curve", [Curve(1.0, 0.0, 0.0), Curve(0.5, 2.0, 0.0), Curve(0.1, 0.02, 3e-4), Curve(0, 0, 1.0)]
)
def test_a_curve_through_its_own_points_is_itself(curve):
    found = Curve.through({n: curve(n) for n in (16, 64, 256, 1024)})
    assert [found(n) for n in (100, 9216)] == pytest.approx([curve(n) for n in (100, 9216)], rel=1e-6)


def test_no_term_of_a_curve_is_negative_however_the_points_lie():
    found = Curve.through({16: 2.0, 64: 1.0, 256: 3.0})
    assert min(found.fixed, found.linear, found.square) >= 0
    assert found(10**6) > 0


def test_a_single_point_grows_with_the_tokens():
    assert Curve.through({100: 2.0}) == Curve(linear=pytest.approx(0.02))


@pytest.mark.parametrize("points", [{}, {16: 0.0}, {16: -1.0}, {16: math.nan}, {16: math.inf}, {0: 1.0}])
def test_points_that_are_no_times_are_refused(points):
    with pytest.raises(ValueError, match="points must be positive seconds for 1 or more tokens, got"):
        Curve.through(points)


def test_the_gain_is_the_share_of_the_time_that_is_saved():
    verdict = PAYS.verdict(64)
    assert verdict == Verdict(frozenset(), pytest.approx(0.4), pytest.approx(0.4), pytest.approx(0.4))
    assert COSTS.verdict(64) == Verdict(frozenset({"attention"}), pytest.approx(-0.1), 0.0, pytest.approx(-0.1))


@pytest.mark.parametrize(("merged", "left_out"), [(0.97, False), (0.985, True)])
def test_less_than_two_in_a_hundred_is_not_worth_another_picture(merged, left_out):
    assert bool(times(merged=merged, matching=0.0).verdict(64).left_out) == left_out


def test_a_part_that_costs_is_left_out_and_the_others_stay():
    mixed = LevelTimes(
        {"attention": Curve(1.0), "mlp": Curve(1.0)}, {"attention": Curve(0.5), "mlp": Curve(1.2)}, Curve(0.1)
    )
    verdict = mixed.verdict(64)
    assert verdict.left_out == {"mlp"}
    assert verdict.saved_seconds == pytest.approx(0.4)
    assert verdict.saved_seconds_by_all == pytest.approx(0.2)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["untouched", "merged"])
def test_times_that_are_none_give_no_verdict(name, wrong):
    assert times(**{name: wrong}).verdict(64) is None


@pytest.mark.parametrize("matching", [-1.0, math.nan])
def test_a_matching_without_a_time_gives_no_verdict_and_none_at_all_takes_none(matching):
    assert times(matching=matching).verdict(64) is None
    assert times(matching=0.0).verdict(64).gain == pytest.approx(0.5)


def test_the_least_side_is_where_the_square_of_attention_outgrows_what_merging_costs():
    growing = LevelTimes({"attention": Curve(square=4e-6)}, {"attention": Curve(square=1e-6)}, Curve(2.0))
    # 3e-6 n^2 > 2 + .02 * 4e-6 n^2 from n = 828 on: 32 x 32 tokens are the first in steps of 64 pixels
    assert growing.least_side(256, 8) == 256
    assert growing.verdict(28 * 28).left_out and not growing.verdict(32 * 32).left_out
    assert COSTS.least_side(256, 8) is None


def test_nothing_is_told_of_sizes_far_beyond_those_that_were_timed():
    growing = LevelTimes({"attention": Curve(square=4e-6)}, {"attention": Curve(square=1e-6)}, Curve(2.0), 196)
    assert growing.largest_side(8) == 192
    assert growing.least_side(64, 8) is None


@pytest.mark.parametrize("swapped", [False, True])
def test_decisions_flip_when_the_times_do(new_unet, new_inputs, swapped):
    by_level = {1: COSTS, 2: PAYS} if swapped else {1: PAYS, 2: COSTS}
    stays, goes = (2, 1) if swapped else (1, 2)
    unet, inputs = new_unet(), new_inputs()
    with apply_speed(unet, SpeedConfig(levels=stays, metric="stem")):
        expected = unet(**inputs).sample
    with apply_speed(unet, Guarded(levels=(1, 2)), timings=lambda level, grid: by_level[level]) as handle:
        assert torch.equal(unet(**inputs).sample, expected)
    side = 16 // goes
    assert handle.report.levels[goes - 1].kept == {}
    assert handle.report.levels[goes - 1].verdicts.keys() == {(side, side)}
    because = "left out at 128x128 px, where merging would take 10% longer"
    assert handle.report.notes == [f"level {goes}: no gain up to 4096 px on this model; {because}"]
    assert "left out" in str(handle.report)


def test_without_the_guard_every_level_merges_and_nothing_is_asked(new_unet, new_inputs):
    unet, inputs = new_unet(), new_inputs()

    def refuse(level, grid):
        raise AssertionError("the guard is off")

    with apply_speed(unet, SpeedConfig(metric="stem"), timings=refuse) as handle:
        unet(**inputs)
    assert handle.report.merged_calls == 1
    assert handle.report.notes == ["timings have no effect: the guard is off, guard=True turns it on"]


FORMS = [
    {"parts": ("attention", "cross_attention", "mlp")},
    {"parts": "block"},
    {"parts": "stack", "proportional": True},
    {"kv_downsample": 2},
    {"kv_ratio": 0.75},
    {"refresh": 3},
]


@pytest.mark.parametrize("metric", ["first_block", "stem", "latent", "estimate", "block"])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_levels_that_are_left_out_add_no_operation_at_all(new_unet, new_inputs, form, metric):
    config = Guarded(levels=(1, 2), metric=metric, **form)
    costs = times(merged=1.0, parts=config.parts)
    unet, inputs, names = new_unet(), new_inputs(batch=1, size=(8, 8)), []
    for settings, given in ((SpeedConfig(ratio=0), None), (config, lambda level, grid: costs)):
        with apply_speed(unet, settings, timings=given), Operations() as operations:
            unet(**inputs)
        names.append(operations.names)
    assert len(names[0]) > 100
    assert names[1] == names[0]


def test_beside_a_level_that_merges_one_that_is_left_out_runs_its_own_operations(new_unet, new_inputs):
    """Level 1 observes for level 2, and yet its blocks do what they do untouched."""
    unet, inputs, names = new_unet(), new_inputs(batch=1), {}
    block_of = {level: unet.down_blocks[level - 1].attentions[0].transformer_blocks[0] for level in (1, 2)}
    for settings in (SpeedConfig(ratio=0), Guarded(levels=(1, 2))):
        by_level = {1: COSTS, 2: PAYS}
        with apply_speed(unet, settings, timings=lambda level, grid, found=by_level: found[level]) as handle:
            for level, block in block_of.items():
                operations = Operations()
                hooks = [
                    block.register_forward_pre_hook(lambda *_, o=operations: o.__enter__() and None, prepend=True),
                    block.register_forward_hook(lambda *_, o=operations: o.__exit__(None, None, None)),
                ]
                unet(**inputs)
                for hook in hooks:
                    hook.remove()
                names.setdefault(level, []).append(operations.names)
    assert handle.report.levels[1].kept == {(8, 8): {"attention": 32}}
    assert names[1][0] == names[1][1]
    assert names[2][0] != names[2][1]


def test_a_part_is_left_out_alone(new_unet, new_inputs):
    unet, inputs = new_unet(), new_inputs()
    mixed = LevelTimes(
        {"attention": Curve(1.0), "mlp": Curve(1.0)}, {"attention": Curve(0.5), "mlp": Curve(1.2)}, Curve()
    )
    with apply_speed(unet, SpeedConfig(metric="stem")):
        expected = unet(**inputs).sample
    with apply_speed(unet, Guarded(parts=("attention", "mlp")), timings=lambda *_: mixed) as handle:
        assert torch.equal(unet(**inputs).sample, expected)
    assert handle.report.notes == ["level 1: mlp left out at 128x128 px, it takes longer merged"]


@pytest.mark.parametrize("part", ["block", "stack"])
def test_a_whole_that_is_left_out_does_not_step_back_to_its_parts(new_unet, new_inputs, part):
    unet, inputs = new_unet("sdxl"), new_inputs()
    untouched = unet(**inputs).sample
    costs = times(merged=1.0, parts=(part,))
    with apply_speed(unet, Guarded(parts=part, levels=(1, 2)), timings=lambda *_: costs) as handle:
        assert torch.equal(unet(**inputs).sample, untouched)
    assert handle.report.untouched_calls == 1


@pytest.mark.parametrize("wrong", [0.0, math.nan])
def test_a_clock_without_times_lets_merge_and_says_so(new_unet, new_inputs, wrong):
    unet, inputs = new_unet(), new_inputs()
    with apply_speed(unet, Guarded(), timings=lambda *_: times(untouched=wrong)) as handle:
        unet(**inputs)
    assert handle.report.merged_calls == 1
    because = "at 16x16 tokens the clock gave no times"
    assert handle.report.notes == [f"level 1: merges without knowing whether that pays, since {because}"]


def test_times_that_fail_let_merge_and_say_so(new_unet, new_inputs):
    def fail(level, grid):
        raise RuntimeError("out of memory")

    unet = new_unet()
    with apply_speed(unet, Guarded(), timings=fail) as handle:
        unet(**new_inputs())
        unet(**new_inputs())
    assert handle.report.merged_calls == 2
    because = "its block failed aside with RuntimeError: out of memory"
    assert handle.report.notes == [f"level 1: merges without knowing whether that pays, since {because}"]


def test_a_level_and_grid_are_decided_once_whatever_the_batch(new_unet, new_inputs):
    asked, unet = [], new_unet()

    def given(level, grid):
        asked.append((level, grid))
        return PAYS

    with apply_speed(unet, Guarded(levels=(1, 3)), timings=given):
        for batch, size in ((2, (16, 16)), (1, (16, 16)), (3, (16, 16)), (1, (8, 24)), (2, (16, 16))):
            unet(**new_inputs(batch=batch, size=size))
    assert asked == [(1, (16, 16)), (3, (4, 4)), (1, (8, 24)), (3, (2, 6))]


def test_another_type_is_decided_anew(new_unet, new_inputs):
    asked, unet = [], new_unet()
    with apply_speed(unet, Guarded(), timings=lambda *place: asked.append(place) or PAYS):
        unet(**new_inputs())
        unet.to(torch.bfloat16)(**new_inputs(dtype=torch.bfloat16))
    assert asked == [(1, (16, 16))] * 2


@pytest.mark.parametrize("metric", ["first_block", "stem", "latent", "estimate", "block"])
def test_the_matching_is_timed_on_features_of_the_width_that_the_metric_has(new_unet, new_inputs, monkeypatch, metric):
    seen, unet = [], new_unet(block_out_channels=(8, 16, 32, 32))
    left_out = LevelGuard.left_out

    def look(self, number, x, text, features):
        seen.append((number, features or (x.shape[1], *x.shape[2:])))
        return left_out(self, number, x, text, features)

    monkeypatch.setattr(LevelGuard, "left_out", look)
    observed = []
    with apply_speed(unet, Guarded(levels=(1, 2), metric=metric), timings=lambda *_: PAYS) as handle:
        observe = handle.state.observe
        handle.state.observe = lambda features: observed.append(tuple(features.shape[1:])) or observe(features)
        unet(**new_inputs())
    assert {features for number, features in seen if number == 1} == {observed[0]}
    assert {features for _, features in seen} == set(observed)
