"""Whether merging pays, decided by times that are given, and by times that are measured."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tome_core.speed import Guard, LevelTimes, SpeedConfig, apply_speed
from tome_core.speed import diffusers as door
from tome_core.speed.diffusers_layout import find_levels
from tome_core.speed.diffusers_timing import time_level

PAYS, COSTS = LevelTimes(1.0, 0.5, 0.1), LevelTimes(1.0, 0.9, 0.2)


class Operations(TorchDispatchMode):
    """Lists the operations that are dispatched, views left out."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view:
            self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def given_times(monkeypatch):
    """Let levels take given times, and count how often they are asked for."""
    times: dict[int, LevelTimes] = {}
    asked: list[int] = []

    def look_up(level, state, grid, text):
        asked.append(level.number)
        return times[level.number]

    monkeypatch.setattr(door, "time_level", look_up)
    return times, asked


def test_the_gain_is_the_share_of_the_time_that_is_saved():
    assert PAYS.gain == pytest.approx(0.4)
    assert COSTS.gain == pytest.approx(-0.1)


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_a_wrong_least_gain_is_named(wrong):
    with pytest.raises(ValueError, match="least_gain must be a number from 0 to 1, got"):
        Guard(wrong)


@pytest.mark.parametrize("swapped", [False, True])
def test_decisions_flip_when_the_times_do(new_unet, new_inputs, given_times, swapped):
    times, _ = given_times
    times |= {1: COSTS, 2: PAYS} if swapped else {1: PAYS, 2: COSTS}
    stays = 2 if swapped else 1
    unet, inputs = new_unet(), new_inputs()
    with apply_speed(unet, SpeedConfig(levels=stays)):
        expected = unet(**inputs).sample
    with apply_speed(unet, SpeedConfig(levels=(1, 2)), guard=Guard()) as handle:
        assert torch.equal(unet(**inputs).sample, expected)
    left_out = handle.report.levels[2 - stays]
    side = 16 // left_out.downsample
    assert left_out.left_out == {(side, side)}
    sentence = f"level {3 - stays}: left out, since merging costs 10% of its time at {side}x{side} tokens"
    assert handle.report.notes == [sentence]


def test_a_level_that_is_left_out_costs_no_operation(new_unet, new_inputs, given_times):
    times, _ = given_times
    times |= {1: COSTS, 2: COSTS}
    unet, inputs, names = new_unet(), new_inputs(), []
    for config, guard in ((SpeedConfig(ratio=0), None), (SpeedConfig(levels=(1, 2), kv_downsample=2), Guard())):
        with apply_speed(unet, config, guard=guard), Operations() as operations:
            unet(**inputs)
        names.append(operations.names)
    assert names[1] == names[0]


def test_what_was_measured_once_serves_every_later_run_of_that_size(new_unet, new_inputs, given_times):
    times, asked = given_times
    times[1] = PAYS
    guard = Guard()
    for unet in (new_unet(), new_unet()):
        with apply_speed(unet, guard=guard):
            unet(**new_inputs())
            unet(**new_inputs())
    assert asked == [1]
    with apply_speed(unet := new_unet(), guard=guard):
        unet(**new_inputs(size=(8, 8)))
    assert asked == [1, 1]


@pytest.mark.parametrize("parts", ["attention", "block", "stack"])
@pytest.mark.parametrize("metric", ["first_block", "stem", "latent", "block"])
def test_a_level_is_timed_and_the_run_goes_on_as_without(new_unet, new_inputs, metric, parts):
    unet, inputs = new_unet("sdxl"), new_inputs()
    config = SpeedConfig(levels=(1, 2), parts=parts, metric=metric)
    with apply_speed(unet, config):
        expected = unet(**inputs).sample
    with apply_speed(unet, config, guard=AcceptsAll()) as handle:
        assert torch.equal(unet(**inputs).sample, expected)
    for level in handle.report.levels:
        ((_, times),) = level.times.items()
        assert times.untouched > 0 and times.merged >= 0 and times.matching >= 0


class AcceptsAll(Guard):
    def refuses(self, times: LevelTimes) -> bool:
        return False


def test_more_blocks_take_more_time(new_unet, new_inputs):
    unet = new_unet("sdxl")
    with apply_speed(unet, SpeedConfig(levels=(2,))) as handle:
        level = find_levels(unet)[1]
        times = time_level(level, handle.state, (4, 4), new_inputs()["encoder_hidden_states"])
        one = type(level)(level.number, level.downsample, level.transformers[:1])
        less = time_level(one, handle.state, (4, 4), new_inputs()["encoder_hidden_states"])
    assert times.untouched > less.untouched
