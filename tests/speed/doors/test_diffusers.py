"""The life of a handle: what it changes while it is there, and that nothing is left when it is gone."""

import copy
import gc
import pickle
import threading
import warnings
import weakref

import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DModel
from torch import nn

from tome_core.errors import UnsupportedModelError
from tome_core.speed import SpeedConfig, SpeedHandle, apply_speed
from tome_core.speed.doors.diffusers import find_unet
from tome_core.speed.engine.engine import SpeedEngine
from tome_core.speed.engine.stack_call import StackCall
from tome_core.speed.plans.run import ModelCall, SamplingRun

METRICS = ("latent", "estimate", "block")
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


def test_an_exception_half_way_through_a_call_leaves_a_clean_model(new_unet, new_inputs, blocks, traces):
    unet, inputs = new_unet(), new_inputs()
    before, untouched = traces(unet), unet(**inputs).sample
    broken = blocks(unet, 1)[1].attn1.to_q
    with apply_speed(unet) as handle:
        merged = unet(**inputs).sample
        with broken_module(broken), pytest.raises(RuntimeError, match="out of memory"):
            unet(**inputs)
        assert (handle.report.merged_calls, handle.report.untouched_calls) == (1, 0)  # it is counted nowhere
        assert handle.plan(1, (16, 16)) is None
        assert torch.equal(unet(**inputs).sample, merged)  # the next call is not disturbed
    assert traces(unet) == before
    assert torch.equal(unet(**inputs).sample, untouched)


def test_plans_of_the_last_call_can_be_looked_at_until_the_next_one(new_unet, new_inputs):
    unet = new_unet()
    with apply_speed(unet, SpeedConfig(metric="latent", mlp_ratio=0.25, parts=("attention", "mlp"))) as handle:
        assert handle.plan(1, (16, 16)) is None  # before any call
        unet(**new_inputs())
        plan, of_mlp = handle.plan(1, (16, 16)), handle.plan(1, (16, 16), "mlp")
        assert plan is not None and of_mlp is not None
        assert (plan.batch, plan.tokens, plan.kept, of_mlp.kept) == (2, 256, 128, 192)
        assert handle.plan(1, (8, 8)) is None  # no call had this grid
        unet(**new_inputs(batch=1, size=(8, 8)))
        assert handle.plan(1, (16, 16)) is None


def test_another_thread_has_plans_of_its_own(new_unet, new_inputs):
    unet, found = new_unet(), []
    with apply_speed(unet, SpeedConfig(metric="latent")) as handle:
        unet(**new_inputs())
        thread = threading.Thread(target=lambda: found.append(handle.plan(1, (16, 16))))
        thread.start()
        thread.join()
        assert found == [None]
        assert handle.plan(1, (16, 16)) is not None


@pytest.mark.parametrize("parts", ["attention", "block"])
def test_the_plan_by_which_a_call_has_merged_is_found_inside_it(new_unet, new_inputs, blocks, parts):
    unet, found = new_unet(), []
    with apply_speed(unet, SpeedConfig(metric="latent", parts=parts)) as handle:
        attention = blocks(unet, 1)[0].attn1

        def look(module, args):
            found.append([handle.plan_of((16, 16), kept) for kept in (128, 100)] + [handle.plan_of((8, 8), 128)])

        attention.to_q.register_forward_pre_hook(look)
        unet(**new_inputs())
        assert found == [[handle.plan(1, (16, 16), parts), None, None]]
        assert found[0][0] is not None
        assert handle.plan_of((16, 16), 128) is None  # the call is over


def test_an_exception_inside_with_closes_the_handle(new_unet, traces):
    unet = new_unet()
    before = traces(unet)
    with pytest.raises(KeyboardInterrupt), apply_speed(unet):
        assert traces(unet) != before
        raise KeyboardInterrupt
    assert traces(unet) == before


def test_a_patch_that_fails_half_way_is_undone(new_unet, blocks, traces, monkeypatch):
    unet = new_unet()
    before = traces(unet)
    last = blocks(unet, 1)[-1].attn1
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
    ours = (SpeedHandle, SpeedEngine, SamplingRun, ModelCall, StackCall)
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


def test_a_model_that_is_no_unet_is_named():
    for model in (nn.Linear(2, 2), AutoencoderKL()):
        with pytest.raises(UnsupportedModelError, match=rf"got {type(model).__name__}$"):
            find_unet(model)


def test_a_pipelines_unet_is_found_and_another_kind_of_denoiser_is_named():
    pipeline = type("Pipeline", (), {"unet": UNet2DModel(block_out_channels=(32, 64, 64, 64))})()
    assert find_unet(pipeline) is pipeline.unet
    pipeline = type("FluxPipeline", (), {"transformer": nn.Identity()})()
    with pytest.raises(UnsupportedModelError, match="got FluxPipeline with a transformer Identity"):
        find_unet(pipeline)


def test_a_unet_that_is_copied_for_each_call_is_refused_with_a_way_out(new_unet, traces):
    unet = new_unet()
    before = traces(unet)
    with pytest.raises(UnsupportedModelError) as refusal:
        apply_speed(nn.DataParallel(unet))
    sentence = "got DataParallel, which copies it for each call: give its .module, and run one process a device"
    assert str(refusal.value).endswith(sentence)
    assert traces(unet) == before


def test_a_pipelines_controlnet_is_said_to_run_on_every_token(new_unet):
    unet = new_unet()
    controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8))
    pipeline = type("Pipeline", (), {"unet": unet, "controlnet": controlnet})()
    with apply_speed(pipeline, SpeedConfig(metric="latent")) as handle:
        (note,) = handle.report.notes
        assert note.startswith("the ControlNet runs on every token")
    with apply_speed(pipeline, SpeedConfig(ratio=0)) as handle:
        assert not any("ControlNet" in note for note in handle.report.notes)


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
        with apply_speed(new_unet(), SpeedConfig(ratio=0.75, metric="latent")) as handle:
            assert handle.report.notes == []


def test_a_part_that_no_block_has_is_said(new_unet):
    handle = apply_speed(new_unet(only_cross_attention=True), SpeedConfig(metric="latent"))
    assert handle.report.notes == [
        "attention has no effect: the blocks of the chosen levels have cross_attention, mlp only"
    ]


@pytest.mark.parametrize("config", ["gentle", {"ratio": 0.5}, False])
def test_what_is_no_config_is_refused_before_anything_is_changed(new_unet, config):
    unet = new_unet()
    with pytest.raises(TypeError, match=r"^config must be a SpeedConfig, as speed_preset makes one .* got "):
        apply_speed(unet, config)
    assert not unet._forward_hooks


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
