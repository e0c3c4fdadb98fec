"""What a report says of multiply-adds, memory and time."""

import json
from functools import partial

import pytest
import torch

from tome_core.merging import MergePlan
from tome_core.speed import Curve, LevelTimes, SpeedConfig, apply_speed
from tome_core.speed import call_times as clocks
from tome_core.speed.call_times import CallClock, CallTimes
from tome_core.speed.diffusers_layout import find_levels
from tome_core.speed.flops import flop_counter
from tome_core.speed.timing import CannotTimeError

Guarded = partial(SpeedConfig, guard=True)

FORMS = [
    {},
    {"parts": ("attention", "cross_attention", "mlp"), "mlp_ratio": 0.25},
    {"parts": "block"},
    {"kv_downsample": 2},
    {"kv_ratio": 0.75},
    {"parts": ("mlp",)},
]


def match(metric, height, width, r):
    """Merge the last tokens into the first, without a multiply-add."""
    kept = height * width - r
    representatives = torch.arange(height * width).clamp(max=kept - 1).repeat(len(metric), 1)
    return MergePlan.from_representatives(representatives, kept)


@pytest.mark.parametrize("shape", ["sd15", "sdxl"])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_flops_that_a_report_says_are_saved_are_those_that_the_model_does_not_do(new_unet, new_inputs, shape, form):
    unet, inputs, counts = new_unet(shape), new_inputs(batch=1), []
    inputs["encoder_hidden_states"] = torch.randn(1, 77, 16)
    for config in (SpeedConfig(ratio=0), Guarded(levels=(1, 2), **form)):
        with apply_speed(unet, config, matcher=match) as handle, flop_counter() as flops:
            unet(**inputs)
        counts.append(flops.get_total_flops())
    savings = [saving for level in (1, 2) for saving in handle.report.savings(level).values()]
    assert len(savings) == 2
    saved = sum(saving.untouched.flops - saving.merged.flops for saving in savings)
    assert saved == counts[0] - counts[1] > 0


def test_what_is_counted_as_memory_is_what_layers_put_out_and_the_scores_of_a_block(new_unet, new_inputs):
    unet, written = new_unet().half(), []
    blocks = find_levels(unet)[0].blocks
    for layer in (layer for block in blocks for layer in block.modules() if not list(layer.children())):
        layer.register_forward_hook(lambda layer, args, y: written.append(0 if y is args[0] else y.numel() * 2))
    with apply_speed(unet, Guarded(parts=("attention", "mlp"))) as handle:
        unet(**new_inputs(batch=1, dtype=torch.float16))
        merged = sum(written)
    written.clear()
    unet(**new_inputs(batch=1, dtype=torch.float16))
    (saving,) = handle.report.savings(1).values()
    rows_of_text = 2 * 3 * (77 - 7) * 2 * 16  # keys and values of the three blocks: a prompt's 77 rows, here 7
    assert saving.merged.activation_bytes == merged + rows_of_text
    heads = blocks[0].attn1.heads
    assert (saving.untouched.score_bytes, saving.merged.score_bytes) == (heads * 256**2 * 2, heads * 128**2 * 2)
    assert saving.untouched.activation_bytes > saving.merged.activation_bytes


def test_a_report_tells_what_is_saved_and_can_be_stored(new_unet, new_inputs):
    unet = new_unet()
    with apply_speed(unet, Guarded()) as handle:
        unet(**new_inputs())
    assert "GFLOP saved a row" in str(handle.report)
    stored = json.loads(json.dumps(handle.report.as_dict()))
    (saving,) = stored["levels"][0]["savings"]
    assert (saving["height"], saving["width"]) == (16, 16)
    assert saving["merged"]["flops"] < saving["untouched"]["flops"]
    assert stored["levels"][1]["savings"] == []


def test_a_block_that_has_no_shapes_alone_is_not_counted_and_the_report_goes_on(new_unet, new_inputs):
    unet = new_unet()
    norm = find_levels(unet)[0].blocks[0].norm1
    norm.__class__ = type(
        "Fussy", (type(norm),), {"forward": lambda self, x: super(type(self), self).forward(x) * x.sum().item()}
    )
    with apply_speed(unet, Guarded()) as handle:
        unet(**new_inputs())
    assert handle.report.savings(1) == {}
    assert "GFLOP" not in str(handle.report)


@pytest.fixture
def ticks(monkeypatch):
    """Let every call take what is put in here, in seconds."""
    seconds: list[float] = []
    now = [0.0]

    def look() -> float:
        now[0] += seconds.pop(0)
        return now[0]

    monkeypatch.setattr(clocks, "stopwatch", lambda device: look)
    return seconds


def test_the_second_call_of_a_size_and_kind_is_timed_and_what_is_expected_told(new_unet, new_inputs, ticks):
    unet, inputs = new_unet(), new_inputs(batch=2)
    level = LevelTimes({"attention": Curve(3.0)}, {"attention": Curve(1.0)}, Curve(0.5))
    with apply_speed(unet, Guarded(end_percent=0.6), timings=lambda *_: level) as handle:
        for timestep, seconds in ((900, []), (900, [0.0, 7.0]), (900, []), (100, []), (100, [0.0, 10.0]), (100, [])):
            ticks += seconds
            unet(**{**inputs, "timestep": timestep})
            if timestep == 900 and seconds:  # 1.5 seconds saved in each row: 7 and not 10
                assert handle.report.call_times[2, 16, 16].expected_ratio == pytest.approx(0.7)
                assert handle.report.call_times[2, 16, 16].measured_ratio is None
    assert ticks == []
    times = handle.report.call_times[2, 16, 16]
    assert times == CallTimes(pytest.approx(7.0), pytest.approx(10.0), pytest.approx(3.0))
    assert (times.expected_ratio, times.measured_ratio) == (pytest.approx(0.7), pytest.approx(0.7))
    assert "time of a call of 2 rows at 128x128 px: expected x 0.70, measured x 0.70" in str(handle.report)


def test_a_level_of_unknown_times_leaves_the_expectation_open(new_unet, new_inputs, ticks):
    unet = new_unet()
    with apply_speed(unet, Guarded(), timings=lambda *_: LevelTimes({}, {})) as handle:
        unet(**new_inputs())
        ticks += [0.0, 1.0]
        unet(**new_inputs())
    assert handle.report.call_times[2, 16, 16] == CallTimes(merged=pytest.approx(1.0))
    assert handle.report.call_times[2, 16, 16].expected_ratio is None


def test_a_call_that_raises_is_not_timed_nor_one_on_a_device_that_cannot_be_waited_for(ticks, monkeypatch):
    times = {}
    clock, size = CallClock(times), (1, 8, 8)
    ticks += [0.0]
    for _ in range(2):
        clock.begin(size, torch.device("cpu"), merges=True)
    clock.reset()
    clock.end(1.0)

    def refuse(device):
        raise CannotTimeError("on an abacus")

    monkeypatch.setattr(clocks, "stopwatch", refuse)
    for _ in range(2):
        clock.begin(size, torch.device("cpu"), merges=False)
        clock.end(None)
    assert times == {}
