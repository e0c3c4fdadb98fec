"""Methods as they are written, and as they act on a model."""

import pickle
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.tools.random_checkpoints import narrow_configs
from tome_core.bench.drawing.method import BASELINE, LeftOutError
from tome_core.bench.drawing.sampling import Settings
from tome_core.bench.methods import merging
from tome_core.bench.methods.merging import Merging
from tome_core.bench.methods.reading import read_mergings, read_methods
from tome_core.bench.speed import denoisers
from tome_core.bench.speed.denoisers import new_call, random_denoiser
from tome_core.bench.speed.probe import Probe, probe
from tome_core.bench.suites import load_suite
from tome_core.binding import BindingConfig
from tome_core.errors import UserError
from tome_core.presets import save_preset
from tome_core.speed import SpeedConfig

SETTINGS = Settings(2, 3.0, 64)
CASES = load_suite("two-colours").cases("seen", 2, 1)
EVERY_PART = "parts=attention+cross_attention+mlp"


@pytest.fixture
def new_unet(monkeypatch):
    monkeypatch.setattr(denoisers, "read_configs", narrow_configs)
    return lambda family: random_denoiser(f"{family}-random", dtype=torch.float32, device=torch.device("cpu"))


def parse(text: str, **shared) -> Merging:
    return read_mergings(text, shared)[1]


def observe(unet, text: str, **shared) -> Probe:
    with parse(text, **shared).on(unet):
        return probe(unet, new_call(unet, (64, 128), 2))


def test_a_list_of_no_methods_is_refused():
    with pytest.raises(UserError, match="methods must name at least one, got ' , '"):
        read_mergings(" , ", {})


def test_a_list_is_read_with_settings_that_hold_commas():
    methods = read_mergings("ours:levels=1+2,parts=attention+mlp,tomesd, ours,ours", {"ratio": 0.3, "levels": None})
    assert [method.name for method in methods] == ["untouched", "ours:levels=1+2,parts=attention+mlp", "tomesd", "ours"]
    assert methods[1].config == SpeedConfig(ratio=0.3, levels=(1, 2), parts=("attention", "mlp"))
    assert methods[3].config == SpeedConfig(ratio=0.3)


def test_a_methods_own_setting_rules_over_the_shared_one():
    assert parse("ours:ratio=0.2", ratio=0.6, levels=(2,)).config == SpeedConfig(ratio=0.2, levels=(2,))


def test_what_cannot_be_read_is_told():
    with pytest.raises(UserError, match="methods must be among"):
        parse("hypertile")


def reach(attention: int, others: int, keys: int | None = None) -> dict[str, set[int]]:
    return {"attention": {attention}, "cross_attention": {others}, "mlp": {others}, "keys": {keys or attention}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ours", {1: reach(64, 128)}),
        ("tomesd", {1: reach(64, 128)}),
        (f"ours:levels=1+2,{EVERY_PART}", {1: reach(64, 64), 2: reach(16, 16)}),
        (f"tomesd:levels=1+2,{EVERY_PART}", {1: reach(64, 64), 2: reach(16, 16)}),
        ("tomesd:ratio=0.75,stride=2x4", {1: reach(32, 128)}),
        ("ours:kv_ratio=0.75", {1: reach(64, 128, keys=32)}),
        ("todo", {1: reach(128, 128, keys=32)}),
    ],
)
def test_the_tokens_that_reach_each_part_are_seen(new_unet, text, expected):
    unet = new_unet("sd15")
    assert observe(unet, text).tokens == observe(unet, "ours:ratio=0").tokens | expected


def test_on_sdxl_tomesd_merges_nothing_at_its_defaults_and_the_same_as_ours_at_the_same_levels(new_unet):
    unet = new_unet("sdxl")
    untouched = observe(unet, "ours:ratio=0")
    default, first = observe(unet, "tomesd"), observe(unet, "tomesd:levels=1")
    assert default.tokens == untouched.tokens
    assert torch.equal(default.output, untouched.output)
    assert first.tokens != untouched.tokens
    assert first.tokens == observe(unet, "ours").tokens


@pytest.mark.parametrize("text", ["ours:levels=1+2", "tomesd:levels=1+2"])
def test_a_method_leaves_nothing_on_the_model(new_unet, traces, text):
    unet = new_unet("sd15")
    before = traces(unet)
    with parse(text).on(unet):
        assert traces(unet) != before
    with pytest.raises(RuntimeError, match="half-way"), parse(text).on(unet):
        raise RuntimeError("half-way")
    assert traces(unet) == before


@pytest.mark.parametrize("levels", ["2", "1+3", "1+2+3+4+5"])
def test_levels_that_tomesd_cannot_do_leave_it_out(new_unet, levels):
    with pytest.raises(LeftOutError, match="are not for it"):
        observe(new_unet("sd15"), f"tomesd:levels={levels}")


def test_a_whole_block_leaves_tomesd_out(new_unet):
    with pytest.raises(LeftOutError, match="never around a whole block"):
        observe(new_unet("sd15"), "tomesd:parts=block")


def test_tomesd_is_left_out_where_it_is_not_installed(new_unet, monkeypatch):
    monkeypatch.setitem(sys.modules, "tomesd", None)
    with pytest.raises(LeftOutError, match=r"tomesd is not installed; .* pip install tomesd==0\.1\.3"):
        observe(new_unet("sd15"), "tomesd")


@pytest.mark.parametrize(("family", "levels"), [("sd15", (1,)), ("sd2", (1,)), ("sdxl", (1, 2))])
def test_a_preset_is_fitted_to_the_family_of_the_model(new_unet, family, levels):
    method = parse("ours:preset=gentle")
    assert method.config.levels == (1,)
    assert method.fitted(new_unet(family)).config.levels == levels
    assert parse("ours:levels=2").fitted(new_unet(family)) == parse("ours:levels=2")


@pytest.mark.parametrize("kind", ["ours", "bind"])
def test_a_preset_of_the_users_which_no_other_machine_has_is_no_method(kind):
    save_preset("mine", speed=SpeedConfig(), binding=BindingConfig())
    with pytest.raises(UserError, match=r"^preset must be one of \('(off|paper)', 'gentle', .*\), got 'mine'"):
        read_methods(f"{kind}:preset=mine", {})


def parse_any(text: str) -> Merging:
    return read_mergings(text, {})[-1]


def latents(text: str, pipeline: Any) -> np.ndarray:
    return parse_any(text).draw(pipeline, CASES, SETTINGS).latents


def test_pictures_of_the_untouched_model_are_the_baselines():
    assert parse_any("untouched").identity == BASELINE.identity


def test_spellings_of_one_setting_share_their_pictures_and_other_settings_do_not():
    same = [parse(text).identity for text in ("ours", "ours:ratio=0.5", "ours:levels=1")]
    assert same[0] == same[1] == same[2]
    others = [parse(text).identity for text in ("ours:ratio=0.25", "ours:levels=1+2", "tomesd")]
    assert all(other not in [*same, *others[:i]] for i, other in enumerate(others))


@pytest.mark.parametrize("text", ["ours:ratio=0.5,levels=1+2", "tomesd"])
def test_a_method_can_be_sent_to_another_process_and_draws_the_same_there(pipeline, text):
    sent = pickle.loads(pickle.dumps(parse(text)))
    torch.manual_seed(1)
    first = sent.draw(pipeline, CASES, SETTINGS).latents
    torch.manual_seed(2)
    assert np.array_equal(first, latents(text, pipeline))
    assert not np.array_equal(first, latents("untouched", pipeline))


def test_a_neutral_method_draws_the_untouched_pictures(pipeline):
    assert np.array_equal(latents("ours:ratio=0", pipeline), latents("untouched", pipeline))


def test_nothing_is_left_on_the_model_and_the_global_generator_is_as_it_was(pipeline, traces):
    before, state = traces(pipeline.unet), torch.get_rng_state()
    for text in ("ours", "tomesd"):
        latents(text, pipeline)
    assert traces(pipeline.unet) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_a_trial_finds_what_cannot_take_part(pipeline, monkeypatch):
    parse("ours").try_out(pipeline, CASES, SETTINGS)
    with pytest.raises(UserError, match="levels must be among"):
        parse("ours:levels=6").try_out(pipeline, CASES, SETTINGS)
    with pytest.raises(LeftOutError, match="are not for it"):
        parse("tomesd:levels=2").try_out(pipeline, CASES, SETTINGS)
    monkeypatch.setitem(sys.modules, "tomesd", None)
    with pytest.raises(LeftOutError, match="tomesd is not installed"):
        parse("tomesd").try_out(pipeline, CASES, SETTINGS)


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ("ours", []),
        ("ours:start_percent=0.4,end_percent=0.6", []),  # the step that is drawn is not between them
        ("ours:start_percent=0.02,end_percent=0.03", ["no step of a run of 20 is between start_percent 0.02 and "]),
    ],
)
def test_a_trial_tells_what_has_no_effect_on_a_whole_run_and_not_on_the_step_it_draws(pipeline, text, notes):
    told = parse(text).try_out(pipeline, CASES, replace(SETTINGS, steps=20))
    assert len(told) == len(notes)
    assert all(sentence.startswith(note) for sentence, note in zip(told, notes, strict=True))


def test_a_peer_that_fails_is_left_out_and_a_failure_of_ours_is_no_reason_to_leave_ours_out(pipeline, monkeypatch):
    def fail(*_):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(merging, "draw", fail)
    with pytest.raises(LeftOutError, match="it fails on this model and size with RuntimeError: shapes differ"):
        parse("tomesd").try_out(pipeline, CASES, SETTINGS)
    with pytest.raises(RuntimeError, match="shapes differ"):
        parse("ours").try_out(pipeline, CASES, SETTINGS)
