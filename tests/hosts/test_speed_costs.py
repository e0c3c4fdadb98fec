"""What merging saves in a patcher's model, counted and timed."""

import pytest
import torch
from torch import nn

from tome_core.speed import Curve, LevelTimes, SpeedConfig, level_guard
from tome_core.speed.block_timing import time_level
from tome_core.speed.patcher import patch_speed


@pytest.mark.parametrize("form", [{}, {"parts": ("attention", "mlp")}, {"parts": "block"}, {"kv_downsample": 2}])
@pytest.mark.parametrize("shape", ["sd15", "sdxl"])
def test_operations_and_memory_are_counted(host, shape, form):
    clone, report = patch_speed(host.new_model(shape), SpeedConfig(**form))
    host.sample(clone, steps=1)
    ((grid, saving),) = report.savings(1).items()
    assert grid == ((16, 16) if shape == "sd15" else (8, 8))
    assert 0 < saving.merged.flops < saving.untouched.flops
    assert saving.merged.score_bytes < saving.untouched.score_bytes
    assert "GFLOP saved a row" in str(report)


def test_a_report_keeps_no_weights(host):
    _, report = patch_speed(host.new_model())
    blocks = [block for block, _ in report.costs._blocks.values()]
    assert blocks and all(weight.is_meta for block in blocks for weight in block.parameters())


class Packed(torch.Tensor):
    """Weights as packs have them that keep them in fewer bits: they cannot be had as shapes alone."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.empty_like:
            raise NotImplementedError("packed weights have no empty copy")
        return super().__torch_function__(func, types, args, kwargs or {})


def test_weights_that_have_no_shapes_alone_cost_the_count_and_not_the_picture(host):
    model = host.new_model()
    for layer in model.model.diffusion_model.modules():
        if isinstance(layer, nn.Linear):
            layer.weight = nn.Parameter(layer.weight.as_subclass(Packed), requires_grad=False)
    clone, report = patch_speed(model)
    assert host.sample(clone).isfinite().all()
    assert report.merged_calls > 0 and report.savings(1) == {}
    assert "GFLOP" not in str(report)


def test_an_attention_of_another_make_costs_the_count_and_not_the_picture(host, monkeypatch):
    monkeypatch.setattr(level_guard, "time_level", time_level)
    model = host.new_model()
    expected = host.sample(patch_speed(model)[0])
    with monkeypatch.context() as patched:
        for layer in model.model.diffusion_model.modules():
            if type(layer).__name__ == "CrossAttention":
                patched.delattr(layer, "heads")
        clone, report = patch_speed(model)
        guarded, _ = patch_speed(model, SpeedConfig(guard=True))
    assert torch.equal(host.sample(clone), expected) and report.savings(1) == {}
    assert host.sample(guarded).isfinite().all()


def test_a_call_that_a_cache_answers_is_not_timed(host):
    answers = []

    def cached(executor, *given, **named):
        if not answers:
            answers.append(executor(*given, **named))
        return answers[0]

    clone, report = patch_speed(host.new_model(), SpeedConfig(guard=True))
    clone = clone.clone()
    clone.add_wrapper_with_key("apply_model", "cache", cached)
    host.sample(clone, steps=4)
    assert report.merged_calls + report.untouched_calls == 1 and report.call_times == {}


def test_the_guard_times_blocks_and_changes_nothing_else(host, monkeypatch, traces):
    monkeypatch.setattr(level_guard, "time_level", time_level)
    model = host.new_model()
    host.sample(model, steps=1)  # what the host itself leaves on a model that it loads is there now
    before = traces(model.model.diffusion_model)
    clone, report = patch_speed(model, SpeedConfig(parts=("attention", "mlp"), guard=True))
    host.sample(clone, steps=3)
    assert report.levels[0].verdicts[16, 16].left_out <= {"attention", "mlp"}
    assert not any("failed aside" in note for note in report.notes)
    assert traces(model.model.diffusion_model) == before


@pytest.mark.parametrize("form", [{"parts": ("attention", "mlp")}, {"parts": "block"}, {"kv_ratio": 0.5}])
def test_what_the_guard_leaves_out_runs_on_every_token(host, monkeypatch, form):
    def costs(block, surroundings, grid, config, matcher=None):
        parts = config.parts
        return LevelTimes(dict.fromkeys(parts, Curve(linear=1.0)), dict.fromkeys(parts, Curve(linear=2.0)))

    monkeypatch.setattr(level_guard, "time_level", costs)
    model = host.new_model()
    told = []
    clone, report = patch_speed(model, SpeedConfig(**form, guard=True), on_end=told.append)
    assert (host.sample(clone) == host.sample(model)).all()
    host.sample(clone)
    for run in told:
        assert run.levels[0].verdicts and any("no gain" in note for note in run.notes)
    assert report.merged_calls == 0 and any("no gain" in note for note in report.notes)
    assert report.call_times
