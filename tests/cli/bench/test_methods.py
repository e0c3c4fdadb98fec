"""Methods as they are written, and as they act on a model."""

import sys

import pytest
import torch

from tests.tools.random_checkpoints import narrow_configs
from tome_core.cli.bench import models
from tome_core.cli.bench.methods import LeftOutError, Merging, parse_methods
from tome_core.cli.bench.models import new_call, random_denoiser
from tome_core.cli.bench.probe import Probe, probe
from tome_core.cli.console import UserError
from tome_core.speed import SpeedConfig

EVERY_PART = "parts=attention+cross_attention+mlp"


@pytest.fixture
def new_unet(monkeypatch):
    monkeypatch.setattr(models, "read_configs", narrow_configs)
    return lambda family: random_denoiser(family, dtype=torch.float32, device=torch.device("cpu"))


def parse(text: str, **shared) -> Merging:
    return parse_methods(text, shared)[1]


def observe(unet, text: str, **shared) -> Probe:
    with parse(text, **shared).on(unet):
        return probe(unet, new_call(unet, (64, 128), 2))


def test_a_list_of_no_methods_is_refused():
    with pytest.raises(UserError, match="methods must name at least one, got ' , '"):
        parse_methods(" , ", {})


def test_a_list_is_read_with_settings_that_hold_commas():
    methods = parse_methods("ours:levels=1+2,parts=attention+mlp,tomesd, ours,ours", {"ratio": 0.3, "levels": None})
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
    assert not default.merges(untouched)
    assert torch.equal(default.output, untouched.output)
    assert first.merges(untouched)
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
