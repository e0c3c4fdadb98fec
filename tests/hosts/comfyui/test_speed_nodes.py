"""Token merging beside ComfyUI's own nodes, samplers and kinds of conditioning."""

import importlib
from types import MappingProxyType

import pytest
import torch

from tome_core.speed import SpeedConfig
from tome_core.speed.doors.patcher import patch_speed

FORMS = ({}, {"parts": ("attention", "cross_attention", "mlp"), "levels": (1, 2)}, {"parts": "block"})
every_form = pytest.mark.parametrize("form", FORMS, ids=("attention", "parts", "block"))

NODES = {
    "FreeU": ("nodes_freelunch", "FreeU", (1.1, 1.2, 0.9, 0.2)),
    "EasyCache": ("nodes_easycache", "EasyCacheNode", (0.5, 0.1, 0.95, False)),
    "LazyCache": ("nodes_easycache", "LazyCacheNode", (0.5, 0.1, 0.95, False)),
    "PAG": ("nodes_pag", "PerturbedAttentionGuidance", (3.0,)),
    "SAG": ("nodes_sag", "SelfAttentionGuidance", (0.5, 2.0)),
    "ToMe": ("nodes_tomesd", "TomePatchModel", (0.3,)),
    "HyperTile": ("nodes_hypertile", "HyperTile", (64, 2, 0, False)),
}


def with_node(model, name):
    module, node, settings = NODES[name]
    kind = getattr(importlib.import_module(f"comfy_extras.{module}"), node)
    result = kind.execute(model, *settings) if hasattr(kind, "execute") else kind().patch(model, *settings)
    return (result.result if hasattr(result, "result") else result)[0]


@every_form
@pytest.mark.parametrize("is_first", [False, True])
@pytest.mark.parametrize("name", NODES)
def test_a_node_of_the_core_works_together_with_merging(comfyui, name, is_first, form):
    model = comfyui.new_model()
    plain = comfyui.sample(model)
    clone, report = patch_speed(with_node(model, name) if is_first else model, SpeedConfig(**form))
    clone = clone if is_first else with_node(clone, name)
    torch.manual_seed(0)
    got, ours, theirs = (
        comfyui.sample(each, steps=5, size=(32, 32))
        for each in (clone, patch_speed(model, SpeedConfig(**form))[0], with_node(model, name))
    )
    assert got.isfinite().all()
    assert not torch.equal(got, ours), f"{name} did nothing"
    steps_aside = form == {} and name in ("ToMe", "HyperTile")  # both give attention other tokens than the block's
    assert steps_aside or (report.merged_calls > 0 and not torch.equal(got, theirs))
    if name in ("FreeU", "EasyCache", "LazyCache"):
        assert report.notes == [] and report.merged_calls > 0
    assert torch.equal(comfyui.sample(model), plain)


def test_calls_that_a_cache_answers_are_not_counted(comfyui):
    clone, report = patch_speed(with_node(comfyui.new_model(), "EasyCache"))
    clone.model_options["transformer_options"]["easycache"].reuse_threshold = 1e9
    comfyui.sample(clone, steps=10)
    assert 0 < report.merged_calls < 10 and report.untouched_calls == 0


@every_form
@pytest.mark.parametrize("sampler", ["euler_ancestral", "dpmpp_2m_sde", "heun", "lcm", "dpmpp_2s_ancestral", "uni_pc"])
def test_every_kind_of_sampler_merges(comfyui, sampler, form):
    model = comfyui.new_model()
    clone, report = patch_speed(model, SpeedConfig(**form, metric="estimate", refresh=2))
    first = comfyui.sample(clone, sampler=sampler, steps=4)
    assert first.isfinite().all() and report.merged_calls > 0 and report.untouched_calls == 0
    assert not torch.equal(first, comfyui.sample(model, sampler=sampler, steps=4))
    assert torch.equal(comfyui.sample(clone, sampler=sampler, steps=4), first)


@every_form
@pytest.mark.parametrize("shape", ["sd15", "sdxl"])
def test_areas_masks_and_long_prompts_merge(comfyui, shape, form):
    model = comfyui.new_model(shape)
    clone, report = patch_speed(model, SpeedConfig(**form))
    mask = torch.zeros(1, 264, 200)
    mask[:, :, :96] = 1
    positive = [
        *comfyui.text(model, 3, area=(20, 16, 4, 8), strength=0.7),
        *comfyui.text(model, 4, mask=mask, mask_strength=1.0),
        *comfyui.text(model, 5, mask=1 - mask, mask_strength=1.0),
        *comfyui.text(model, 6, rows=154),
    ]
    for together in (True, False):
        given = {"size": (33, 25), "batch": 3, "positive": positive, "together": together, "steps": 2}
        got = comfyui.sample(clone, **given)
        assert got.isfinite().all() and not torch.equal(got, comfyui.sample(model, **given))
        assert torch.equal(comfyui.sample(clone, **given), got)
    assert len(report.levels[0].kept) == 2, "the whole picture and the area"
    assert all(min(kept.values()) < height * width for (height, width), kept in report.levels[0].kept.items())


@every_form
def test_a_strip_of_1000_by_72_pixels_merges(comfyui, form):
    model = comfyui.new_model()
    clone, report = patch_speed(model, SpeedConfig(**form))
    first = comfyui.sample(clone, size=(9, 125), batch=3)
    assert first.isfinite().all() and not torch.equal(first, comfyui.sample(model, size=(9, 125), batch=3))
    assert report.levels[0].kept.keys() == {(9, 125)} and min(report.levels[0].kept[9, 125].values()) < 9 * 125
    assert torch.equal(comfyui.sample(clone, size=(9, 125), batch=3), first)


@every_form
def test_tiled_sampling_merges_each_tile_by_its_own_plans(comfyui, form):
    def tiled(model, corners):
        def in_tiles(apply_model, call):
            """Average tiles of 16x16 that overlap, as packs for tiled sampling do in the same slot of the host."""
            x, given = call["input"], call["c"]
            total, times = torch.zeros_like(x), torch.zeros_like(x)
            for y, left in corners:
                at = ..., slice(y, y + 16), slice(left, left + 16)
                total[at] += apply_model(x[at], call["timestep"], **given)
                times[at] += 1
            return total / times

        clone = model.clone()
        clone.set_model_unet_function_wrapper(in_tiles)
        return clone

    corners = [(0, 0), (0, 8), (8, 0), (8, 8)]
    model = comfyui.new_model()
    config = SpeedConfig(**form, metric="estimate", refresh=3)
    clone, report = patch_speed(tiled(model, corners), config)
    got = comfyui.sample(clone, size=(24, 24), steps=12)
    assert got.isfinite().all() and report.levels[0].kept.keys() == {(16, 16)} and report.untouched_calls == 0
    assert torch.equal(comfyui.sample(clone, size=(24, 24), steps=12), got)
    assert not torch.equal(comfyui.sample(tiled(model, corners), size=(24, 24), steps=12), got)
    backwards, _ = patch_speed(tiled(model, corners[::-1]), config)
    assert (comfyui.sample(backwards, size=(24, 24), steps=12) - got).norm() < 1e-4 * got.norm()


def test_a_second_pass_at_another_size_merges_by_its_own_plans(comfyui):
    model = comfyui.new_model()
    clone, report = patch_speed(model, SpeedConfig(refresh=2, metric="estimate"))
    first = comfyui.sample(clone, steps=12, size=(12, 12))
    larger = torch.nn.functional.interpolate(first, scale_factor=2)
    noise = torch.randn(larger.shape, generator=torch.Generator().manual_seed(3))
    second = comfyui.sample(clone, steps=12, noise=noise, denoise=0.5)
    assert second.isfinite().all() and report.levels[0].kept.keys() == {(12, 12), (24, 24)}
    fresh, _ = patch_speed(model, SpeedConfig(refresh=2, metric="estimate"))
    assert torch.equal(comfyui.sample(fresh, steps=12, noise=noise, denoise=0.5), second)


@every_form
def test_a_lora_before_or_after_gives_the_same(comfyui, form):
    model = comfyui.new_model()
    name = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
    change = torch.randn(32, 32, generator=torch.Generator().manual_seed(1)) * 0.1
    plain, _ = patch_speed(model, SpeedConfig(**form))
    without = comfyui.sample(plain)
    before = model.clone()
    before.add_patches({name: ("diff", (change,))}, 1.0)
    before, _ = patch_speed(before, SpeedConfig(**form))
    after = patch_speed(model, SpeedConfig(**form))[0].clone()
    after.add_patches({name: ("diff", (change,))}, 1.0)
    with_lora = comfyui.sample(before)
    assert torch.equal(comfyui.sample(after), with_lora) and not torch.equal(with_lora, without)
    assert torch.equal(comfyui.sample(plain), without)


class Residuals:
    """A ControlNet as ComfyUI calls it, which adds to the middle and to the skips."""

    previous_controlnet = None
    extra_hooks = None
    multigpu_clones = MappingProxyType({})  # which newer hosts ask for

    def get_instance_for_device(self, device):
        return self

    def get_control(self, x, t, cond, batched_number, transformer_options):
        return {"middle": [torch.ones(1) * 0.1], "output": [torch.ones(1) * 0.1] * 12, "input": []}

    def pre_run(self, model, percent_to_timestep):
        pass

    def get_models(self):
        return []

    def get_extra_hooks(self):
        return []

    def inference_memory_requirements(self, dtype):
        return 0

    def cleanup(self):
        pass


@every_form
def test_a_controlnet_adds_to_merged_pictures(comfyui, form):
    model = comfyui.new_model()
    clone, report = patch_speed(model, SpeedConfig(**form))
    controlled = comfyui.text(model, 1, control=Residuals(), control_apply_to_uncond=True)
    got = comfyui.sample(clone, positive=controlled)
    assert got.isfinite().all() and report.merged_calls > 0
    assert not torch.equal(got, comfyui.sample(clone)), "the ControlNet did nothing"
    assert not torch.equal(got, comfyui.sample(model, positive=controlled)), "nothing merged"


@every_form
@pytest.mark.parametrize("is_first", [False, True])
def test_a_compiled_model_merges_what_it_can_and_says_the_rest(comfyui, form, is_first):
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    torch.compiler.reset()
    model = comfyui.new_model()
    if is_first:
        model = model.clone()
        set_torch_compile_wrapper(model=model, backend="eager")
    clone, report = patch_speed(model, SpeedConfig(metric="block", **form))
    if not is_first:
        clone = clone.clone()
        set_torch_compile_wrapper(model=clone, backend="eager")
    got = comfyui.sample(clone, steps=2)
    assert got.isfinite().all() and report.merged_calls == 2
    assert any("estimate is used instead" in note for note in report.notes)
    assert any("has no patch point" in note for note in report.notes) == (form != {})
    plainly, _ = patch_speed(comfyui.new_model(), SpeedConfig(ratio=0.5, metric="estimate"))
    if form == {}:
        assert torch.allclose(got, comfyui.sample(plainly, steps=2), rtol=1e-3, atol=1e-2)
    torch.compiler.reset()
