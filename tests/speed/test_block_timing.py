"""The calibration on a real clock: what it touches, and what it tells."""

import time
from functools import partial

import pytest
import torch

from tome_core.merging import bipartite_soft_matching_2d
from tome_core.speed import SpeedConfig, apply_speed, block_timing, level_guard
from tome_core.speed.block_bench import Surroundings
from tome_core.speed.block_timing import time_level
from tome_core.speed.block_twin import bare_twin
from tome_core.speed.diffusers_layout import find_levels
from tome_core.speed.timing import CannotTimeError, stopwatch

Guarded = partial(SpeedConfig, guard=True, metric="stem")

CPU = torch.device("cpu")


@pytest.fixture
def real_times(merging_pays, monkeypatch):
    """Take back what lets every other test find that merging pays."""
    monkeypatch.setattr(level_guard, "time_level", time_level)


def surroundings(blocks: int = 1, matchings: int = 1, channels: int = 16, **changes) -> Surroundings:
    settings = {"text_channels": 16, "features": (channels, 16, 16), "device": CPU, "dtype": torch.float32}
    return Surroundings(blocks, matchings, channels, **{**settings, **changes})


FORMS = [
    {},
    {"parts": ("attention", "cross_attention", "mlp"), "mlp_ratio": 0.25},
    {"parts": "block", "proportional": True},
    {"parts": "stack"},
    {"kv_downsample": 2, "ratio": 0.0},
    {"kv_ratio": 0.75},
    {"seed": 3, "matching": "window"},
]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_form_is_timed(new_unet, form):
    config, block = Guarded(**form), find_levels(new_unet())[0].blocks[0]
    times = time_level(block, surroundings(), (16, 16), config)
    assert times.untouched.keys() == times.merged.keys() == set(config.parts)
    assert all(curve(256) > 0 for curve in (*times.untouched.values(), *times.merged.values()))
    assert (times.matching(256) > 0) == (config.ratio > 0 or config.kv_ratio is not None)
    assert times.verdict(256) is not None


def test_a_calibration_leaves_no_trace_and_nobody_sees_it(new_unet, new_inputs, traces, real_times):
    unet, inputs, seen = new_unet(dropout=0.5).train(), new_inputs(), []
    for level in find_levels(unet):
        for module in level.blocks[0].modules():
            module.register_forward_pre_hook(lambda module, args: seen.append(module))
    with torch.no_grad():
        unet(**inputs)
        calls, seen[:] = len(seen), []
        before = traces(unet)
        handle = apply_speed(unet, Guarded(levels=(1, 2)))
        unet(**inputs)
    assert len(seen) == calls
    assert handle.report.levels[0].verdicts.keys() == {(16, 16)}
    assert unet.training
    handle.close()
    assert traces(unet) == before


def test_a_calibration_records_nothing_of_its_own_and_draws_from_no_global_generator(new_unet, new_inputs, real_times):
    unet, inputs = new_unet(), new_inputs()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with apply_speed(unet, Guarded(levels=(1, 2, 3), parts="block", seed=1)) as handle:
        unet(**inputs)
    assert torch.equal(torch.get_rng_state(), before)
    for level, side in zip(handle.report.levels[:3], (16, 8, 4), strict=True):
        assert level.kept.keys() <= {(side, side)}
        assert level.verdicts.keys() == {(side, side)}
    assert handle.report.merged_calls + handle.report.untouched_calls == 1


def test_a_matcher_of_ones_own_is_what_is_timed(new_unet):
    def slow(metric, height, width, r):
        time.sleep(0.002)
        sum(range(100_000))  # the clock may be the processor's
        return bipartite_soft_matching_2d(metric, height, width, r)

    block = find_levels(new_unet())[0].blocks[0]
    quick = time_level(block, surroundings(), (8, 8), Guarded())
    assert time_level(block, surroundings(), (8, 8), Guarded(), slow).matching(64) > 2 * quick.matching(64)


def test_blocks_and_matchings_are_counted(new_unet, monkeypatch):
    monkeypatch.setattr(block_timing, "_fastest", lambda runs, clock, until: dict.fromkeys(runs, 1e-3))
    block = find_levels(new_unet())[0].blocks[0]
    times = time_level(block, surroundings(blocks=10, matchings=3), (16, 16), Guarded())
    assert (times.untouched["attention"](256), times.matching(256)) == pytest.approx((0.01, 0.003))


def test_sizes_that_would_take_long_are_reckoned_from_smaller_ones(new_unet, monkeypatch):
    timed = []

    def fastest(runs, clock, until):
        timed.append(runs["attention"].x.shape[1])
        return {name: 1e-9 * timed[-1] ** 2 * (1 + name.startswith("merged")) for name in runs}

    monkeypatch.setattr(block_timing, "_fastest", fastest)
    monkeypatch.setattr(block_timing, "_BUDGET", 0.2)
    block = find_levels(new_unet())[0].blocks[0]
    times = time_level(block, surroundings(features=(16, 96, 96)), (96, 96), Guarded())
    assert timed == [144, 576, 2304]  # 3 * 2304 ** 2 ns, ten times that and again would be more
    assert times.untouched["attention"](9216) == pytest.approx(1e-9 * 9216**2, rel=1e-6)
    assert times.most_tokens == 2304


@pytest.mark.parametrize(("merged", "sizes"), [(1e-4, [16, 64]), (2e-3, [16, 64, 256, 1024])])
def test_larger_sizes_are_timed_only_where_merging_does_not_pay(new_unet, monkeypatch, merged, sizes):
    timed = []

    def fastest(runs, clock, until):
        timed.append(runs["attention"].x.shape[1])
        return {"attention": 1e-3, "merged attention": merged, "matching": 1e-5}

    monkeypatch.setattr(block_timing, "_fastest", fastest)
    time_level(find_levels(new_unet())[0].blocks[0], surroundings(), (8, 8), Guarded())
    assert timed == sizes


def test_a_device_that_cannot_be_waited_for_is_no_place_to_time():
    with pytest.raises(CannotTimeError, match="on a device of type meta, which torch cannot wait for"):
        stopwatch(torch.device("meta"))


def test_a_model_that_cannot_be_timed_merges_and_says_so(new_unet, new_inputs, monkeypatch, real_times):
    def refuse(device):
        raise CannotTimeError("on a device of type abacus, which torch cannot wait for")

    monkeypatch.setattr(block_timing, "stopwatch", refuse)
    unet = new_unet()
    with apply_speed(unet, Guarded()) as handle:
        unet(**new_inputs())
    assert handle.report.merged_calls == 1
    assert handle.report.notes == [
        "level 1: merges without knowing whether that pays, since it cannot be timed on a device of type abacus, "
        "which torch cannot wait for"
    ]


def test_a_twin_shares_the_weights_and_none_of_the_hooks(new_unet):
    block, x, text = find_levels(new_unet())[0].blocks[0], torch.randn(1, 4, 16), torch.randn(1, 3, 16)
    expected, seen = block(x, encoder_hidden_states=text), []
    block.attn1.register_forward_hook(lambda *_: seen.append(1))
    block.attn1.forward = None  # as a library that wraps it would
    twin = bare_twin(block)
    assert torch.equal(twin(x, encoder_hidden_states=text), expected)
    assert seen == []
    assert all(a is b for a, b in zip(block.parameters(), twin.parameters(), strict=True))
    shapes = bare_twin(block, "meta")
    assert {parameter.device.type for parameter in shapes.parameters()} == {"meta"}
    assert shapes(x.to("meta"), encoder_hidden_states=text.to("meta")).shape == (1, 4, 16)
    assert {parameter.device.type for parameter in block.parameters()} == {"cpu"}


def test_a_twin_does_without_the_processors_of_others(new_unet):
    block, x = find_levels(new_unet())[0].blocks[0], torch.randn(1, 4, 16)
    expected, own, seen = block.attn1(x), block.attn1.processor, []

    class Recorder:
        def __call__(self, attn, *args, **kwargs):
            seen.append(1)
            return own(attn, *args, **kwargs)

    recorder = Recorder()
    block.attn1.set_processor(recorder)
    assert torch.equal(bare_twin(block).attn1(x), expected)
    assert seen == []
    assert block.attn1.processor is recorder
