"""Jobs of a webui from their first pass to their last, on the plain host and on one as the Forge family is."""

from __future__ import annotations

import copy
import gc
import sys
from types import SimpleNamespace

import pytest
import torch

from tests.a1111_extension.fake.webui import STEPS, Script, Webui
from tome_core.speed import SpeedConfig, apply_speed_to_module
from tome_core.speed.layouts import read_layout

OFF, FAST = (False,), (True, "custom", 1.0, "same", False, "paper", 1.0, "", False, 0.5, "1", "block")


@pytest.fixture(params=[False, True], ids=["plain", "forge"])
def webui(request):
    return Webui(is_forge=request.param)


@pytest.fixture
def clean(webui, traces):
    before = traces(webui.unet)
    return lambda: traces(webui.unet) == before


def broken(*args, **kwargs):
    raise RuntimeError("gather is not supported on this device")


def test_a_job_that_is_off_is_as_without_the_extension(webui, script, clean):
    latents = webui.run(Script(), OFF).latents
    p = webui.run(script, OFF)
    assert torch.equal(p.latents, latents)
    assert p.extra_generation_params == {} and p.comments == [] and clean()


def test_a_job_that_is_on_merges_in_every_call_and_leaves_nothing(webui, script, clean):
    plain = webui.run(script, OFF).latents
    p = webui.run(script, FAST)
    assert not torch.equal(p.latents, plain)
    assert f"ToMe: Merged tokens in {STEPS} of {STEPS} model calls." in p.comments
    assert "ToMe: Level 1" in p.comments[1] and "block ran on 128" in p.comments[1]
    assert p.extra_generation_params["ToMe preset"] == "custom"
    assert clean() and webui.errors == []
    assert torch.equal(webui.run(script, OFF).latents, plain)


def test_the_same_job_gives_the_same_latents(webui, script):
    assert torch.equal(webui.run(script, FAST).latents, webui.run(script, FAST).latents)


def test_the_hires_pass_has_a_preset_of_its_own(webui, script, clean):
    only_hires = (True, "off", 1.0, "custom", *FAST[4:])
    p = webui.run(script, only_hires, enable_hr=True)
    assert f"ToMe: Merged tokens in {STEPS} of {STEPS} model calls." in p.comments
    assert any("1024 tokens: block ran on 512" in line for line in p.comments)
    assert not any("256 tokens" in line for line in p.comments)
    assert p.extra_generation_params["ToMe hires preset"] == "custom" and clean()


def test_no_error_of_merging_costs_the_picture(webui, script, clean, monkeypatch):
    plain = webui.run(script, OFF).latents
    monkeypatch.setattr(sys.modules["tome_core.speed.engine.hooks"], "add_unmerged", broken)
    p = webui.run(script, FAST)
    assert torch.equal(p.latents, plain)
    assert any("gather is not supported on this device" in line for line in p.comments)
    assert clean() and webui.errors == []


def test_no_error_of_the_extension_costs_the_picture(webui, script, part, clean, monkeypatch):
    plain = webui.run(script, OFF).latents
    for owner, name in ((part("job").Job, "start_pass"), (part("job").Job, "step"), (part("job").Job, "end_passes")):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, broken)
            p = webui.run(script, FAST)
        assert name == "end_passes" or torch.equal(p.latents, plain)
        assert any(line.startswith("ToMe: gave up") and "gather" in line for line in p.comments)
        assert p.extra_generation_params == {}
        assert clean() and webui.errors == []


def test_what_a_failed_job_left_is_gone_before_the_next_one(webui, script, clean):
    def fail(step):
        if step == 2:
            raise KeyboardInterrupt

    plain = webui.run(script, OFF).latents
    with pytest.raises(KeyboardInterrupt):
        webui.run(script, FAST, before_step=fail)
    gc.collect()
    assert torch.equal(webui.run(script, OFF).latents, plain)
    assert clean()


def test_a_wrong_value_is_said_in_one_line_and_changes_nothing(webui, script):
    plain = webui.run(script, OFF).latents
    for args, said in (
        ((True, "quick"), "preset must be one of"),
        ((True, "custom", 1.0, "same", False, "paper", 1.0, "", False, 7), "Speed ratio must be"),
        ((True, {"a": [1]}), "must be"),
    ):
        p = webui.run(script, args)
        assert torch.equal(p.latents, plain) and webui.errors == []
        (line,) = p.comments
        assert line.startswith("ToMe: Nothing done: ") and said in line and "\n" not in line
        assert p.extra_generation_params == {}


def test_the_hosts_own_merging_leaves_nothing_to_merge_twice(webui, script):
    plain = webui.run(script, OFF).latents
    p = webui.run(script, FAST, token_merging_ratio=0.5)
    assert torch.equal(p.latents, plain)
    assert any("the webui's own token merging is on at 0.5" in line for line in p.comments)
    assert p.extra_generation_params == {}


def test_hypertile_and_merging_do_not_meet(webui, script):
    plain = webui.run(script, OFF).latents
    webui.opts.hypertile_enable_unet_secondpass = True
    assert not any("HyperTile" in line for line in webui.run(script, FAST).comments)
    assert any("HyperTile" in line for line in webui.run(script, FAST, enable_hr=True).comments)
    webui.opts.hypertile_enable_unet = True
    p = webui.run(script, FAST)
    assert torch.equal(p.latents, plain) and any("HyperTile" in line for line in p.comments)


def test_a_job_inside_a_job_is_on_its_own(webui, script, clean):
    plain, inner = webui.run(script, OFF).latents, []

    class Nesting(type(script)):
        def postprocess_image(self, p, pp, *args):
            if not inner:  # as ADetailer does, with the scripts of its own
                inner.append(webui.run(Script(), OFF))
            super().postprocess_image(p, pp, *args)

    p = webui.run(Nesting(), FAST)
    assert torch.equal(inner[0].latents, plain)
    assert f"ToMe: Merged tokens in {STEPS} of {STEPS} model calls." in p.comments and clean()


def test_cells_of_a_grid_that_share_their_text_say_each_its_own(webui, script):
    shared = {"Steps": 4}
    runs = [
        webui.run(script, (False,), extra_generation_params=shared, tome_axes=axes)
        for axes in ({"speed.ratio": 0.25}, {"speed.ratio": 0.75}, {"enabled": "False"})
    ]
    assert [run.extra_generation_params.get("ToMe ratio") for run in runs] == [0.25, 0.75, None]
    assert shared == {"Steps": 4}


def test_a_copy_of_a_job_is_none_of_ours(webui, script):
    class Copying(type(script)):
        def postprocess_image(self, p, pp, *args):
            self.postprocess(copy.copy(p), SimpleNamespace(images=[], infotexts=[], comments=""))
            super().postprocess_image(p, pp, *args)

    p = webui.run(Copying(), FAST)
    assert f"ToMe: Merged tokens in {STEPS} of {STEPS} model calls." in p.comments and webui.errors == []


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ((True, "off"), "Nothing to do"),
        ((True, "fast", 0.0), "Nothing merges at speed strength 0"),
        ((True, "fast", 1.0, "same", False, "paper", 1.0, "", True), "Maps need"),
    ],
    ids=str,
)
def test_a_setting_without_effect_says_so(webui, script, args, sentence):
    assert any(sentence in line for line in webui.run(script, args).comments)


def test_a_console_without_the_letters_costs_nothing(webui, script, clean, monkeypatch):
    def refuse(*given):
        raise UnicodeEncodeError("cp1252", "x", 0, 1, "no such letter")

    monkeypatch.setattr("builtins.print", refuse)
    p = webui.run(script, FAST)
    assert f"ToMe: Merged tokens in {STEPS} of {STEPS} model calls." in p.comments and clean()


def test_a_hundred_jobs_leave_no_hook(webui, script, clean):
    for number in range(100):
        webui.run(script, FAST if number % 2 else OFF)
    assert clean() and webui.errors == []


def test_a_model_that_is_no_unet_passes_through_with_a_sentence(webui, script, monkeypatch):
    owner = webui.patcher.model if webui.patcher is not None else webui.sd_model.model
    network = owner.diffusion_model

    class Flux(torch.nn.Module):
        def forward(self, *args, **kwargs):
            return network(*args, **kwargs)

    monkeypatch.setattr(owner, "diffusion_model", Flux())
    p = webui.run(script, FAST)
    assert any("Nothing merges" in line and "Flux" in line for line in p.comments) and webui.errors == []


class TestOnThePlainHost:
    @pytest.fixture
    def webui(self):
        return Webui()

    def test_a_refiner_that_takes_over_merges_as_well(self, webui, script, traces):
        first, second = webui.network, Webui().network
        before = traces(first), traces(second)

        def swap(step):
            if step == 2:
                webui.network = webui.sd_model.model.diffusion_model = second

        p = webui.run(script, FAST, before_step=swap)
        for number in (1, 2):
            assert f"ToMe: Part {number} of 2: Merged tokens in 2 of 2 model calls." in p.comments
        assert (traces(first), traces(second)) == before

    def test_a_refiner_that_is_no_unet_runs_untouched_and_is_named(self, webui, script, traces):
        first = webui.network
        before = traces(first)

        class Flux(torch.nn.Module):
            def forward(self, *args, **kwargs):
                return first(*args, **kwargs)

        def swap(step):
            if step == 2:
                webui.network = webui.sd_model.model.diffusion_model = Flux()

        p = webui.run(script, FAST, before_step=swap)
        assert "ToMe: Merged tokens in 2 of 2 model calls." in p.comments
        assert any("Nothing merges" in line and "Flux" in line for line in p.comments)
        assert traces(first) == before and webui.errors == []

    def test_a_leftover_forward_of_another_extension_does_not_hide_merging(self, webui, script):
        block = webui.network.get_submodule(read_layout(webui.network).stacks[0].blocks[0].path)
        block.forward = block.forward  # an attribute of the instance, as ControlNet's reference leaves one
        p = webui.run(script, FAST)
        assert f"ToMe: Merged tokens in {STEPS} of {STEPS} model calls." in p.comments

    def test_the_counts_are_those_of_the_core(self, webui, script):
        p = webui.run(script, FAST)
        with apply_speed_to_module(webui.network, SpeedConfig(parts="block")) as handle:
            webui.run(Script(), ())
        assert handle.report.result().splitlines() == [line.removeprefix("ToMe: ") for line in p.comments]


class TestOnForge:
    @pytest.fixture
    def webui(self):
        return Webui(is_forge=True)

    def test_a_function_that_took_the_slot_is_kept_and_merging_with_it(self, webui, script):
        calls = []

        def other(apply_model, given):
            calls.append(1)
            return apply_model(given["input"], given["timestep"], **given["c"])

        def steal(step):
            if step == 0:
                webui.sd_model.forge_objects.unet.model_options["model_function_wrapper"] = other

        p = webui.run(script, FAST, before_step=steal)
        assert f"ToMe: Merged tokens in {STEPS} of {STEPS} model calls." in p.comments
        assert len(calls) == STEPS

    def test_spectrum_which_leaves_out_calls_goes_together_with_merging_and_is_named(self, webui, script):
        asked = []

        def spectrum_unet_wrapper(apply_model, given):
            asked.append(1)
            if len(asked) % 2:
                self.last = apply_model(given["input"], given["timestep"], **given["c"])
            return self.last

        webui.patcher.model_options["model_function_wrapper"] = spectrum_unet_wrapper
        p = webui.run(script, FAST)
        assert any("Spectrum is on as well" in line for line in p.comments)
        assert f"ToMe: Merged tokens in {STEPS // 2} of {STEPS // 2} model calls." in p.comments
        assert not any("Spectrum" in line for line in webui.run(script, OFF).comments)

    def test_a_second_call_before_the_same_pass_replaces_the_first(self, webui, script):
        class Twice(type(script)):
            def process_before_every_sampling(self, p, *args, **named):
                super().process_before_every_sampling(p, *args, **named)
                webui.sd_model.forge_objects = SimpleNamespace(unet=webui.patcher)  # as Forge does in its hires pass
                super().process_before_every_sampling(p, *args, **named)

        p = webui.run(Twice(), FAST)
        assert [line for line in p.comments if "model calls" in line] == [
            f"ToMe: Merged tokens in {STEPS} of {STEPS} model calls."
        ]
