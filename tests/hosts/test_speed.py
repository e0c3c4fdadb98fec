"""Token merging through the patcher protocol: the same claims of a fake host and, where there is one, of ComfyUI."""

import threading

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.hosts.comfyui import host as comfyui
from tome_core.errors import UnsupportedModelError
from tome_core.speed import SpeedConfig
from tome_core.speed.doors.patcher import find_config, find_family, patch_speed

EVERY_FORM = [
    {},
    {"parts": ("attention", "cross_attention", "mlp")},
    {"parts": "block"},
    {"parts": "stack"},
    {"kv_ratio": 0.5, "ratio": 0.25},
    {"kv_downsample": 2, "ratio": 0},
    {"proportional": True},
    {"parts": "block", "proportional": True},
    {"metric": "estimate"},
    {"metric": "block"},
    {"metric": "latent", "seed": 3},
    {"metric": "latent", "matching": "window"},
]
every_form = pytest.mark.parametrize(
    "form", EVERY_FORM, ids=lambda form: "-".join(map(str, form.values())) or "default"
)
SHAPES = ("sd15", "sdxl")


def close(a, b, least=1e-4):
    return ((a - b).norm() / b.norm()).item() < least


def hooks_of(model):
    network = model.model.diffusion_model
    return [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in network.modules()]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_neutral_config_gives_a_plain_clone_and_the_same_bits(host, shape):
    model = host.new_model(shape)
    plain = host.sample(model)
    clone, report = patch_speed(model, SpeedConfig(ratio=0))
    assert clone is not model and clone.model is model.model
    assert not any(clone.wrappers.values())
    assert torch.equal(host.sample(clone), plain)
    assert "untouched" in report.notes[0]


@every_form
@pytest.mark.parametrize("shape", SHAPES)
def test_a_run_merges_and_leaves_nothing_on_the_model(host, shape, form, traces):
    model = host.new_model(shape)
    plain = host.sample(model)
    clone, report = patch_speed(model, SpeedConfig(**form))
    before, hooks = traces(model.model.diffusion_model), hooks_of(model)
    merged = host.sample(clone)
    assert not torch.equal(merged, plain)
    assert report.merged_calls > 0 and report.untouched_calls == 0
    height, width = (16, 16) if shape == "sd15" else (8, 8)
    kept = report.levels[0].kept[height, width]
    assert min(kept.values()) < height * width
    assert traces(model.model.diffusion_model) == before and hooks_of(model) == hooks
    assert torch.equal(host.sample(model), plain)


@every_form
def test_prompt_and_empty_prompt_may_come_together_or_apart(host, form):
    clone, _ = patch_speed(host.new_model(), SpeedConfig(**form))
    assert close(host.sample(clone), host.sample(clone, together=False))


@every_form
def test_an_image_is_the_same_alone_and_in_a_batch(host, form):
    clone, _ = patch_speed(host.new_model(), SpeedConfig(**form))
    noise = torch.randn(3, 4, 12, 10, generator=torch.Generator().manual_seed(5))
    together = host.sample(clone, noise=noise)
    for row in range(3):
        assert close(host.sample(clone, noise=noise[row : row + 1]), together[row : row + 1])


@every_form
@pytest.mark.parametrize(("size", "merges"), [((9, 7), True), ((2, 15), True), ((1, 4), False)])
def test_odd_sizes_merge_where_a_cell_fits_and_are_deterministic(host, form, size, merges):
    model = host.new_model()
    clone, report = patch_speed(model, SpeedConfig(**form))
    first = host.sample(clone, size=size, batch=3, steps=2)
    takes_few_keys = form.get("kv_downsample", 1) > 1  # which needs no cell
    assert torch.equal(first, host.sample(model, size=size, batch=3, steps=2)) != (merges or takes_few_keys)
    assert torch.equal(host.sample(clone, size=size, batch=3, steps=2), first)
    assert size in report.levels[0].kept


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_kept(host, dtype):
    config = SpeedConfig(parts=("attention", "mlp"), proportional=True)
    clone, report = patch_speed(host.new_model(dtype=dtype), config)
    whole, _ = patch_speed(host.new_model(), config)
    assert close(host.sample(clone, steps=1).float(), host.sample(whole, steps=1), 0.05)
    assert report.merged_calls > 0


def test_a_clone_says_by_which_config_it_merges(host):
    model = host.new_model()
    assert find_config(model) is None
    config = SpeedConfig(ratio=0.25, parts="block")
    once, _ = patch_speed(model, config)
    assert find_config(once) == find_config(once.clone()) == config and find_config(model) is None
    twice, _ = patch_speed(once, SpeedConfig())
    assert find_config(twice) == SpeedConfig()
    assert find_config(patch_speed(twice, SpeedConfig(ratio=0))[0]) is None


def test_the_later_of_two_in_a_chain_replaces_the_earlier(host):
    model = host.new_model()
    once, _ = patch_speed(model, SpeedConfig(ratio=0.25))
    first, earlier = patch_speed(model, SpeedConfig(ratio=0.75, parts="block"))
    twice, report = patch_speed(first, SpeedConfig(ratio=0.25))
    assert torch.equal(host.sample(twice), host.sample(once))
    assert earlier.merged_calls == 0 and report.merged_calls > 0
    plain, _ = patch_speed(first, SpeedConfig(ratio=0))
    assert torch.equal(host.sample(plain), host.sample(model))


def test_merging_is_only_in_the_chosen_part_of_the_run(host):
    clone, report = patch_speed(host.new_model(), SpeedConfig(start_percent=0.3, end_percent=0.7))
    host.sample(clone, steps=10)
    assert 3 <= report.merged_calls <= 5
    assert report.merged_calls + report.untouched_calls >= 10


def test_what_has_no_effect_in_a_run_is_said(host):
    clone, report = patch_speed(host.new_model(), SpeedConfig(refresh=4, metric="estimate"))
    host.sample(clone, steps=2)
    assert any("refresh has no effect in a run of" in note for note in report.notes)
    assert any("metric estimate sees the noisy latent alone" in note for note in report.notes)


def test_a_run_without_guidance_merges(host):
    clone, report = patch_speed(host.new_model())
    host.sample(clone, cfg=1.0)
    assert report.merged_calls > 0


def test_the_end_of_each_run_is_told_by_a_report_of_that_run_alone(host):
    told = []
    clone, report = patch_speed(host.new_model(), SpeedConfig(ratio=0.9, refresh=4), on_end=told.append)
    host.sample(clone, steps=2)
    host.sample(clone, size=(12, 10), steps=30)
    first, second = told
    assert [first.merged_calls, second.merged_calls] == [2, 30] and report.merged_calls == 32
    assert first.levels[0].kept.keys() == {(16, 16)} and second.levels[0].kept.keys() == {(12, 10)}
    assert report.levels[0].kept.keys() == {(16, 16), (12, 10)}
    assert any("refresh has no effect in a run of 2 steps" in note for note in first.notes)
    assert not any("refresh has no effect" in note for note in second.notes)
    assert all(any("is above what stride" in note for note in run.notes) for run in told)


@pytest.mark.parametrize("form", [{"parts": ("attention", "mlp")}, {"parts": "block"}, {"metric": "estimate"}])
def test_a_run_that_fails_is_told_and_leaves_nothing(host, form, traces):
    model = host.new_model()
    plain = host.sample(model)
    told, before = [], traces(model.model.diffusion_model)
    clone, _ = patch_speed(model, SpeedConfig(**form), on_end=told.append)
    failing, calls = clone.clone(), []

    def fail(q, k, v, options):
        calls.append(q)
        if len(calls) > 2:
            raise InterruptedError("stopped by the artist")
        return q, k, v

    failing.set_model_attn2_patch(fail)
    with pytest.raises(InterruptedError):
        host.sample(failing)
    assert len(told) == 1
    assert traces(model.model.diffusion_model) == before
    assert torch.equal(host.sample(model), plain)
    fresh, _ = patch_speed(model, SpeedConfig(**form))
    assert torch.equal(host.sample(clone), host.sample(fresh))


@pytest.mark.parametrize("other", [{"ratio": 0}, {"ratio": 0.3, "parts": ("mlp",)}, {"parts": "stack"}])
def test_two_clones_in_two_threads_do_not_disturb_each_other(host, other):
    if host is comfyui:
        pytest.skip("ComfyUI keeps the patcher of its run on the model: two at once fail there without us, too")
    model = host.new_model()
    clones = [patch_speed(model, SpeedConfig(**form))[0] for form in ({"parts": "block", "refresh": 2}, other)]
    alone = [host.sample(clone, steps=6) for clone in clones]
    got, started = {}, threading.Barrier(2)

    def run(number):
        started.wait()
        got[number] = host.sample(clones[number], steps=6)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(got[number], alone[number]) for number in range(2))


def test_the_global_random_generator_is_left_alone(host):
    clone, _ = patch_speed(host.new_model(), SpeedConfig(seed=1))
    noise = torch.randn(1, 4, 8, 8)
    state = torch.get_rng_state()
    host.sample(clone, noise=noise)
    moved = torch.get_rng_state()
    torch.set_rng_state(state)
    plain, _ = patch_speed(clone, SpeedConfig(ratio=0))
    host.sample(plain, noise=noise)
    assert torch.equal(torch.get_rng_state(), moved)


def pool(x, side=16):
    """Return each cell of 2 x 2 tokens as one: what windows of 2 x 2 merge at ratio 0.75, whatever is in them."""
    image = x.transpose(1, 2).unflatten(2, (side, side))
    return functional.avg_pool2d(image, 2).flatten(2).transpose(1, 2)


def spread(y, side=16):
    image = y.transpose(1, 2).unflatten(2, (side // 2, side // 2))
    return functional.interpolate(image, scale_factor=2, mode="nearest").flatten(2).transpose(1, 2)


CELLS = {"ratio": 0.75, "matching": "window"}


def test_attention_gives_what_a_slow_reference_gives(host):
    model = host.new_model()
    clone, _ = patch_speed(model, SpeedConfig(**CELLS, parts=("attention", "cross_attention")))
    slow = model.clone()
    fits = lambda x: x.shape[1] == 256  # noqa: E731
    slow.set_model_attn1_patch(lambda q, k, v, options: (pool(q),) * 3 if fits(q) else (q, k, v))
    slow.set_model_patch(lambda n, options: spread(n) if n.shape[1] == 64 and grid(options) == 256 else n, ATTN1_OUT)
    slow.set_model_attn2_patch(lambda q, k, v, options: (pool(q), k, v) if fits(q) else (q, k, v))
    slow.set_model_patch(lambda n, options: spread(n) if n.shape[1] == 64 and grid(options) == 256 else n, ATTN2_OUT)
    assert close(host.sample(clone), host.sample(slow))


ATTN1_OUT, ATTN2_OUT = "attn1_output_patch", "attn2_output_patch"


def grid(options):
    return options["activations_shape"][2] * options["activations_shape"][3]


@pytest.mark.parametrize("part", ["mlp", "block", "stack"])
def test_what_no_patch_reaches_gives_what_a_slow_reference_gives(host, part, monkeypatch):
    model = host.new_model()
    clone, _ = patch_speed(model, SpeedConfig(**CELLS, parts=part))
    merged = host.sample(clone)
    for block in model.model.diffusion_model.modules():
        if type(block).__name__ != "BasicTransformerBlock":
            continue
        module = block.ff if part == "mlp" else block
        forward = module.forward

        def slow(x, *args, forward=forward, **kwargs):
            if x.shape[1] != 256:
                return forward(x, *args, **kwargs)
            if part == "mlp":
                return spread(forward(pool(x)))
            return x + spread(forward(pool(x), *args, **kwargs) - pool(x))

        monkeypatch.setattr(module, "forward", slow)
    assert close(merged, host.sample(model))


def test_keys_that_stand_for_four_tokens_each_weigh_alike(host):
    plainly, _ = patch_speed(host.new_model(), SpeedConfig(**CELLS))
    weighed, report = patch_speed(host.new_model(), SpeedConfig(**CELLS, proportional=True))
    assert close(host.sample(weighed), host.sample(plainly))
    assert report.notes == []


def test_proportional_attention_counts_sizes(host):
    clone, _ = patch_speed(host.new_model(), SpeedConfig(ratio=0.4))
    weighed, _ = patch_speed(host.new_model(), SpeedConfig(ratio=0.4, proportional=True))
    assert not close(host.sample(weighed), host.sample(clone))


def test_a_model_without_a_unet_is_named(host):
    model = host.new_model()

    class Flux(nn.Module):
        pass

    class Model:
        diffusion_model = Flux()

    model.model = Model()
    with pytest.raises(UnsupportedModelError, match=r"got Flux: .*DiT.* not yet"):
        patch_speed(model)


def test_a_level_that_the_model_lacks_is_refused(host):
    with pytest.raises(ValueError, match=r"levels must be among \(1, 2.*got \(8,\)"):
        patch_speed(host.new_model(), SpeedConfig(levels=8))


@pytest.mark.parametrize(("shape", "family"), [("sd15", "sd1"), ("sdxl", "sdxl")])
def test_the_family_is_told_by_the_layers(host, shape, family):
    assert find_family(host.new_model(shape)) == family
