"""The life of a handle: what it changes while it is there, and that nothing is left when it is gone."""

import copy
import gc
import pickle
import warnings
import weakref

import pytest
import torch
from torch import nn

from tome_core.errors import UnsupportedModelError
from tome_core.speed import SpeedConfig, SpeedHandle, SpeedState, apply_speed
from tome_core.speed.diffusers_hooks import TransformerHooks
from tome_core.speed.diffusers_layout import find_levels
from tome_core.speed.diffusers_parts import PartHooks

METRICS = ("first_block", "stem", "latent", "estimate", "block")
EVERY_PART = ("attention", "cross_attention", "mlp")


@pytest.mark.parametrize("shape", ["sd15", "sd2", "sdxl"])
def test_ratio_zero_installs_nothing_and_is_bit_identical(new_unet, new_inputs, traces, shape):
    unet, inputs = new_unet(shape), new_inputs()
    before, untouched = traces(unet), unet(**inputs).sample
    with apply_speed(unet, SpeedConfig(ratio=0)) as handle:
        assert not handle.is_installed
        assert traces(unet) == before
        assert torch.equal(unet(**inputs).sample, untouched)


@pytest.mark.parametrize("shape", ["sd15", "sd2", "sdxl"])
@pytest.mark.parametrize("metric", METRICS)
def test_the_defaults_merge_in_every_model(new_unet, new_inputs, relative_error, shape, metric):
    unet, inputs = new_unet(shape), new_inputs()
    untouched = unet(**inputs).sample
    with apply_speed(unet, SpeedConfig(metric=metric)) as handle:
        assert 1e-3 < relative_error(unet(**inputs).sample, untouched) < 0.5
    grid = 16 // handle.report.levels[0].downsample
    assert handle.report.levels[0].kept == {(grid, grid): {"attention": grid * grid // 2}}
    assert [level.kept for level in handle.report.levels[1:]] == [{}] * (len(handle.report.levels) - 1)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shape", ["sd15", "sdxl"])
def test_closing_leaves_no_trace(new_unet, new_inputs, traces, shape, metric):
    unet, inputs = new_unet(shape), new_inputs()
    before, untouched = traces(unet), unet(**inputs).sample
    handle = apply_speed(unet, SpeedConfig(metric=metric, levels=(1, 2), parts=EVERY_PART))
    unet(**inputs)
    assert handle.is_installed
    assert traces(unet) != before
    handle.close()
    assert not handle.is_installed
    assert traces(unet) == before
    assert torch.equal(unet(**inputs).sample, untouched)
    handle.close()  # once more does nothing
    assert traces(unet) == before


def test_an_exception_half_way_through_a_call_leaves_a_clean_model(new_unet, new_inputs, traces):
    unet, inputs = new_unet(), new_inputs()
    before, untouched = traces(unet), unet(**inputs).sample
    broken = find_levels(unet)[0].blocks[1].get_submodule("attn1.to_q")
    with apply_speed(unet) as handle:
        merged = unet(**inputs).sample
        with broken_module(broken), pytest.raises(RuntimeError, match="out of memory"):
            unet(**inputs)
        assert (handle.report.merged_calls, handle.report.untouched_calls) == (1, 0)  # it is counted nowhere
        assert handle.state.plan(1, (16, 16)) is None
        assert all(part._plan is None for hooks in handle._transformers for part in hooks._merging)
        assert torch.equal(unet(**inputs).sample, merged)  # the next call is not disturbed
    assert traces(unet) == before
    assert torch.equal(unet(**inputs).sample, untouched)


def test_an_exception_inside_with_closes_the_handle(new_unet, traces):
    unet = new_unet()
    before = traces(unet)
    with pytest.raises(KeyboardInterrupt), apply_speed(unet):
        assert traces(unet) != before
        raise KeyboardInterrupt
    assert traces(unet) == before


def test_a_patch_that_fails_half_way_is_undone(new_unet, traces, monkeypatch):
    unet = new_unet()
    before = traces(unet)
    last = find_levels(unet)[0].blocks[-1].attn1
    hooks_at_failure = []

    def fail(*args, **kwargs):
        hooks_at_failure.append(sum(len(module._forward_pre_hooks) for module in unet.modules()))
        raise RuntimeError("no hooks here")

    monkeypatch.setattr(last, "register_forward_hook", fail)
    with pytest.raises(RuntimeError, match="no hooks here"):
        apply_speed(unet)
    monkeypatch.undo()
    assert hooks_at_failure[0] > 3
    assert traces(unet) == before


def test_applying_twice_closes_the_earlier_handle(new_unet, new_inputs, traces):
    unet, inputs = new_unet(), new_inputs()
    before = traces(unet)
    with apply_speed(unet, SpeedConfig(ratio=0.25)):
        quarter = unet(**inputs).sample
    first = apply_speed(unet, SpeedConfig(ratio=0.75))
    second = apply_speed(unet, SpeedConfig(ratio=0.25))
    assert not first.is_installed
    assert torch.equal(unet(**inputs).sample, quarter)
    first.close()  # must not take the second one off
    assert second.is_installed
    assert torch.equal(unet(**inputs).sample, quarter)
    apply_speed(unet, SpeedConfig(ratio=0))
    assert not second.is_installed
    assert traces(unet) == before


def test_a_hundred_cycles_leak_nothing(new_unet, new_inputs, traces):
    unet, inputs = new_unet(), new_inputs(batch=1, size=(8, 8))
    before, handles = traces(unet), []
    for _ in range(100):
        handle = apply_speed(unet)
        unet(**inputs)
        handle.close()
        handles.append(weakref.ref(handle))
    del handle
    gc.collect()
    assert traces(unet) == before
    assert [handle for handle in handles if handle() is not None] == []
    ours = (SpeedHandle, SpeedState, TransformerHooks, PartHooks)
    assert [thing for thing in gc.get_objects() if type(thing) in ours] == []


def test_a_patched_model_that_is_dropped_is_freed(new_unet, new_inputs):
    unet = new_unet()
    handle = apply_speed(unet)
    unet(**new_inputs(batch=1, size=(8, 8)))
    gone = weakref.ref(unet)
    del unet
    gc.collect()
    assert gone() is None
    handle.close()


def test_a_handle_that_is_dropped_leaves_the_model_merging(new_unet, new_inputs):
    unet, inputs = new_unet(), new_inputs()
    untouched = unet(**inputs).sample
    apply_speed(unet)
    gc.collect()
    assert not torch.equal(unet(**inputs).sample, untouched)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda unet: pickle.loads(pickle.dumps(unet))])
def test_a_copy_of_a_patched_model_has_a_patch_of_its_own(new_unet, new_inputs, copied):
    unet, inputs = new_unet(), new_inputs()
    untouched = unet(**inputs).sample
    handle = apply_speed(unet)
    merged, twin = unet(**inputs).sample, copied(unet)
    handle.close()
    assert torch.equal(unet(**inputs).sample, untouched)
    assert torch.equal(twin(**inputs).sample, merged)
    apply_speed(twin, SpeedConfig(ratio=0))
    assert torch.equal(twin(**inputs).sample, untouched)


def test_a_level_that_the_model_lacks_is_refused_before_any_work(new_unet, traces):
    unet = new_unet("sdxl")
    earlier = apply_speed(unet)
    before = traces(unet)
    with pytest.raises(ValueError, match=r"levels must be among \(1, 2\) on this UNet2DConditionModel, got \(1, 3\)"):
        apply_speed(unet, SpeedConfig(levels=(1, 3)))
    assert traces(unet) == before
    assert earlier.is_installed


def test_a_model_without_transformer_blocks_is_refused():
    with pytest.raises(UnsupportedModelError, match="model must be a UNet with down_blocks of BasicTransformerBlocks"):
        apply_speed(nn.Linear(4, 4))


def test_a_ratio_above_the_cap_warns_and_the_report_says_what_merges(new_unet, new_inputs):
    unet = new_unet()
    with pytest.warns(UserWarning, match="ratio 0.9 is above what stride 2x2 allows: at most 0.75 of the tokens merge"):
        handle = apply_speed(unet, SpeedConfig(ratio=0.9))
    unet(**new_inputs())
    assert handle.report.levels[0].kept == {(16, 16): {"attention": 64}}
    assert any("at most 0.75" in note for note in handle.report.notes)


def test_nothing_warns_below_the_cap(new_unet, new_inputs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with apply_speed(new_unet(), SpeedConfig(ratio=0.75, metric="stem")) as handle:
            assert handle.report.notes == []


def test_sdxl_says_that_its_first_block_sees_the_text(new_unet):
    handle = apply_speed(new_unet("sdxl"), SpeedConfig(metric="first_block"))
    assert handle.report.metric == "stem"
    assert "first_block would see the text" in handle.report.notes[0]
    assert apply_speed(new_unet("sd15"), SpeedConfig(metric="first_block")).report.metric == "first_block"


def test_a_part_that_no_block_has_is_said(new_unet):
    handle = apply_speed(new_unet(only_cross_attention=True), SpeedConfig(metric="stem"))
    assert handle.report.notes == [
        "attention has no effect: the blocks of the chosen levels have cross_attention, mlp only"
    ]


def broken_module(module: nn.Module):
    """Return a context in which the module raises when it is called."""

    def fail(module, args):
        raise RuntimeError("out of memory")

    class Broken:
        def __enter__(self):
            self.hook = module.register_forward_pre_hook(fail)

        def __exit__(self, *error):
            self.hook.remove()

    return Broken()


@pytest.mark.parametrize("config", ["gentle", {"ratio": 0.5}, False])
def test_what_is_no_config_is_refused_before_anything_is_changed(new_unet, config):
    unet = new_unet()
    with pytest.raises(TypeError, match=r"^config must be a SpeedConfig, as speed_preset makes one .* got "):
        apply_speed(unet, config)
    assert not unet._forward_hooks
