"""Attention maps inside ComfyUI's own samplers: there, of the right shape, of the right prompt, and without a trace."""

import pytest
import torch

from tests.hosts.comfyui import host as comfyui

if comfyui.missing():
    pytest.skip(comfyui.missing() or "", allow_module_level=True)

from tests.hosts.comfyui.bound import bind, demo, encode
from tests.hosts.comfyui.host import sample
from tome_core.attention_maps import collect_maps, record_maps
from tome_core.demo import load_demo
from tome_core.speed import SpeedConfig
from tome_core.speed.doors.patcher import patch_speed

COLOURS = "a red circle and a blue square"
SAMPLERS = ("euler", "euler_ancestral", "dpmpp_2m", "dpmpp_sde", "heun", "uni_pc")


@pytest.fixture(scope="module")
def texts():
    clip = demo()[1]
    return {
        "positive": bind(clip, COLOURS, norm="noun").conditioning,
        "negative": encode(clip, ""),
        "long": encode(clip, "and " * 100),
    }


def run(model, texts, negative="negative", **settings):
    given = {"size": (32, 24), "steps": 3, "cfg": 3.0, "positive": texts["positive"], "negative": texts[negative]}
    return sample(model, **(given | settings))


def maps_of(shelf, latent, **expected):
    found, notes = shelf.maps(latent)
    assert found is not None, notes
    assert notes == []
    assert bool(found.maps.isfinite().all()) and found.maps.min() >= 0 and found.maps.max() <= 1
    assert found.maps.mean() > 1e-3
    return found


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_maps_are_there_in_every_sampler_and_change_nothing(texts, sampler):
    model = demo()[0]
    patched, shelf = collect_maps(model)
    latent = run(patched, texts, sampler=sampler)
    first = maps_of(shelf, latent)
    assert (first.labels, first.maps.shape) == (("circle", "square"), (1, 2, 32, 24))
    assert torch.equal(latent, run(model, texts, sampler=sampler))
    assert torch.equal(maps_of(shelf, run(patched, texts, sampler=sampler)).maps, first.maps)


def test_a_batch_has_maps_for_each_image(texts):
    patched, shelf = collect_maps(demo()[0])
    latent = run(patched, texts, batch=4)
    found = maps_of(shelf, latent)
    assert found.maps.shape == (4, 2, 32, 24)
    assert not torch.allclose(found.maps[0], found.maps[1], atol=1e-4)


def test_maps_are_of_the_prompt_alone_however_the_host_batches_it(texts):
    patched, shelf = collect_maps(demo()[0])
    together = maps_of(shelf, run(patched, texts)).maps
    apart = maps_of(shelf, run(patched, texts, together=False)).maps
    unguided = maps_of(shelf, run(patched, texts, cfg=1.0, steps=1)).maps
    once = maps_of(shelf, run(patched, texts, steps=1)).maps
    assert torch.allclose(together, apart, atol=1e-4)
    assert torch.allclose(unguided, once, atol=1e-4)


def test_rows_that_the_host_repeats_beside_a_longer_prompt_are_folded(texts):
    patched, shelf = collect_maps(demo()[0])
    short = maps_of(shelf, run(patched, texts, steps=1)).maps
    beside = maps_of(shelf, run(patched, texts, negative="long", steps=1)).maps
    assert torch.allclose(short, beside, atol=1e-4)


def test_several_prompts_areas_and_times_have_their_own_maps(texts):
    clip = demo()[1]
    (rows, known), other = texts["positive"][0], bind(clip, "a ~green star~", norm="noun").conditioning[0]
    area = {"area": (16, 24, 16, 0), "strength": 1.0, "set_area_to_bounds": False}
    positive = [[rows, {**known, **area}], [other[0], {**other[1], "start_percent": 0.0, "end_percent": 0.6}]]
    patched, shelf = collect_maps(demo()[0])
    latent = run(patched, texts | {"positive": positive}, steps=4)
    found = maps_of(shelf, latent)
    assert found.labels == ("circle", "square", "star")
    assert found.maps[:, :2, :16].abs().max() == 0
    assert found.maps[:, :2, 16:].mean() > 1e-3 and found.maps[:, 2].mean() > 1e-3


def test_merged_image_tokens_have_whole_maps(texts):
    model = demo()[0]
    config = SpeedConfig(ratio=0.5, parts=("attention", "cross_attention", "mlp"), levels=(1, 2))
    for before in (True, False):
        patched, shelf = collect_maps(patch_speed(model, config)[0] if before else model)
        patched = patched if before else patch_speed(patched, config)[0]
        latent = run(patched, texts)
        assert maps_of(shelf, latent).maps.shape == (1, 2, 32, 24)
        assert torch.equal(latent, run(patch_speed(model, config)[0], texts))


def test_a_pack_that_replaces_every_cross_attention_leaves_the_maps(texts):
    def theirs(q, k, v, options):
        q, k, v = (x.unflatten(2, (options["n_heads"], -1)).transpose(1, 2) for x in (q, k, v))
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return 0.9 * out.transpose(1, 2).flatten(2)

    patched, shelf = collect_maps(demo()[0])
    for block, count in (("input", 12), ("middle", 1), ("output", 12)):
        for number in range(count):
            patched.set_model_attn2_replace(theirs, block, number)
    assert maps_of(shelf, run(patched, texts)).maps.shape == (1, 2, 32, 24)


def test_maps_are_there_with_a_lora_and_with_a_controlnet(texts):
    from comfy.controlnet import ControlBase

    patched, shelf = collect_maps(demo()[0])
    name = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight"
    shape = patched.get_model_object(name).shape
    with_lora = patched.clone()
    with_lora.add_patches({name: ("diff", (torch.full(shape, 0.02),))}, 1.0)
    plain, changed = (maps_of(shelf, run(model, texts, steps=1)).maps for model in (patched, with_lora))
    assert changed.shape == plain.shape and not torch.equal(changed, plain)

    class Control(ControlBase):
        def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
            return {"middle": [torch.full((x_noisy.shape[0], 1, 1, 1), 0.1)], "input": [], "output": []}

        def get_models(self):
            return []

        def copy(self):
            return self

    rows, known = texts["positive"][0]
    latent = run(patched, texts | {"positive": [[rows, {**known, "control": Control()}]]}, steps=1)
    assert maps_of(shelf, latent).maps.shape == plain.shape


def test_a_run_that_fails_leaves_no_maps_and_the_model_as_it_was(texts, traces):
    model = demo()[0]
    plain, before = run(model, texts), traces(model.model.diffusion_model)
    patched, shelf = collect_maps(model)

    def fail(*args):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(patched, texts, callback=fail)
    assert shelf.maps()[0] is None
    assert traces(model.model.diffusion_model) == before
    assert "tome_maps" not in patched.model_options["transformer_options"]
    assert torch.equal(run(model, texts), plain)


def test_a_run_without_groups_says_so(texts):
    patched, shelf = collect_maps(demo()[0])
    latent = run(patched, texts | {"positive": encode(demo()[1], COLOURS)})
    found, notes = shelf.maps(latent)
    assert found is None and len(notes) == 1
    assert notes[0].startswith("No maps: the positive prompt of this run has no groups.")


def test_a_latent_chooses_its_run(texts):
    patched, shelf = collect_maps(demo()[0])
    first, second = run(patched, texts, seed=1), run(patched, texts, seed=2)
    found, notes = shelf.maps()
    assert found is not None and notes[0].startswith("Maps of run ")
    one, two = (maps_of(shelf, latent).maps for latent in (first, second))
    assert not torch.equal(one, two) and torch.equal(found.maps, two)
    found, notes = shelf.maps(torch.zeros(1, 4, 32, 24))
    assert found is not None and torch.equal(found.maps, two) and notes[0].startswith("No sampler of this model")


def test_collecting_twice_replaces_the_first(texts):
    once, first = collect_maps(demo()[0])
    twice, second = collect_maps(once)
    latent = run(twice, texts, steps=1)
    assert first.maps(latent)[0] is None
    assert maps_of(second, latent).calls == maps_of(collected(once, first, texts), latent).calls


def collected(model, shelf, texts):
    run(model, texts, steps=1)
    return shelf


@pytest.mark.usefixtures("diffusers_door")
def test_the_maps_are_the_diffusers_doors(texts):
    pipeline, model = load_demo(), demo()[0]
    patched, shelf = collect_maps(model)
    found = maps_of(shelf, run(patched, texts, steps=1, cfg=1.0))
    noise = torch.randn(1, 4, 32, 24, generator=torch.Generator().manual_seed(0))
    with record_maps(pipeline, [3, 7]) as recorder, torch.no_grad():
        pipeline.unet(noise, 999, texts["positive"][0][0].clone())
    assert torch.allclose(found.maps, recorder.mean(), atol=1e-5)
