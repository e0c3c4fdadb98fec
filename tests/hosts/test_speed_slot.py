"""Token merging where a host has one slot around a model call and no keyed wrappers, as the Forge family."""

import pytest
import torch

from tests.hosts.fake import forge, host
from tome_core.speed import SpeedConfig
from tome_core.speed.doors.patcher import find_config, patch_speed

SLOT = forge.SLOT
FORMS = [
    {},
    {"parts": "block"},
    {"parts": "stack", "levels": (1, 2)},
    {"parts": ("attention", "cross_attention", "mlp"), "mlp_ratio": 0.25},
    {"metric": "block", "parts": ("attention", "mlp"), "mlp_ratio": 0.25},
    {"metric": "block", "parts": "block"},
    {"metric": "estimate", "refresh": 2},
    {"kv_ratio": 0.75},
    {"kv_downsample": 2, "ratio": 0},
    {"proportional": True},
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())) or "default")
def test_a_network_that_adds_in_place_merges_as_one_that_does_not(form):
    wrapped, _ = patch_speed(host.new_model(), SpeedConfig(**form))
    clone, report = patch_speed(forge.new_model(), SpeedConfig(**form))
    got = forge.sample(clone, steps=5)
    torch.testing.assert_close(got, host.sample(wrapped, steps=5))
    assert report.merged_calls == 5
    assert torch.equal(forge.sample(clone, steps=5), got)


def test_nothing_is_left_after_a_run(traces):
    model = forge.new_model()
    plain, before = forge.sample(model), traces(model.model.diffusion_model)
    clone, _ = patch_speed(model, SpeedConfig(parts="block"))
    assert not torch.equal(forge.sample(clone), plain)
    assert traces(model.model.diffusion_model) == before
    assert torch.equal(forge.sample(model), plain)


def test_another_function_in_the_slot_is_around_ours_and_comes_back():
    calls = []

    def other(apply_model, given):
        calls.append(given["input"].shape)
        return apply_model(given["input"], given["timestep"], **given["c"])

    model = forge.new_model()
    model.model_options[SLOT] = other
    clone, report = patch_speed(model)
    forge.sample(clone)
    assert len(calls) == report.merged_calls == 3
    again, _ = patch_speed(clone, SpeedConfig(ratio=0))
    assert again.model_options[SLOT] is other
    assert (find_config(model), find_config(clone), find_config(again)) == (None, SpeedConfig(), None)


def test_tiles_of_another_function_merge_one_by_one():
    def tiles(apply_model, given):  # as MultiDiffusion calls the model
        x, rows = given["input"], given["timestep"]
        halves = [apply_model(half, rows, **given["c"]) for half in x.chunk(2, dim=3)]
        return torch.cat(halves, dim=3)

    model = forge.new_model()
    model.model_options[SLOT] = tiles
    clone, report = patch_speed(model, SpeedConfig(parts="block"))
    assert forge.sample(clone).isfinite().all()
    assert report.levels[0].kept == {(16, 8): {"block": 64}}
    assert report.merged_calls == 6


def test_the_later_replaces_the_earlier_also_where_another_function_is_between_them():
    first, earlier = patch_speed(forge.new_model(), SpeedConfig(ratio=0.75))
    ours = first.model_options[SLOT]
    first.model_options[SLOT] = lambda apply_model, given: ours(apply_model, given)
    second, later = patch_speed(first, SpeedConfig(ratio=0.25))
    once, _ = patch_speed(forge.new_model(), SpeedConfig(ratio=0.25))
    assert torch.equal(forge.sample(second), forge.sample(once))
    assert earlier.merged_calls == 0 and later.merged_calls == 3


def test_a_model_of_one_step_does_not_fill_the_memory():
    clone, _ = patch_speed(forge.new_model(), SpeedConfig(metric="estimate"))
    for seed in range(80):
        forge.sample(clone, steps=1, size=(4, 4), seed=seed)
    function = clone.model_options[SLOT]
    runs = function.wrappers._unannounced._under_way._runs
    assert 0 < sum(len(run.images._present) for run in runs) <= 64


def test_the_later_replaces_the_earlier_and_a_neutral_one_leaves_an_empty_slot():
    model = forge.new_model()
    first, earlier = patch_speed(model)
    second, later = patch_speed(first, SpeedConfig(ratio=0.25))
    forge.sample(second)
    assert earlier.merged_calls == 0 and later.merged_calls == 3
    plain, _ = patch_speed(second, SpeedConfig(ratio=0))
    assert SLOT not in plain.model_options
    assert torch.equal(forge.sample(plain), forge.sample(model))
