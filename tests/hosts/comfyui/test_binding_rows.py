"""A bound CONDITIONING in a real ComfyUI: what its rows are, what stays as CLIP Text Encode makes it."""

import copy

import pytest
import torch
from safetensors.torch import save_file

from tests.hosts.comfyui import host as comfyui

if comfyui.missing():
    pytest.skip(comfyui.missing() or "", allow_module_level=True)

from tests.hosts.comfyui.bound import bind, demo, encode, rows, small_clip
from tome_core.attention_maps import PHRASES_KEY
from tome_core.bench.suites.suite import load_suite
from tome_core.binding import BindingConfig, apply_binding
from tome_core.demo import load_demo

COLOURS = "a red circle and a blue square"
BARE = "a circle and a square"
FAMILIES = ("sd15", "sd2", "sdxl")


@pytest.fixture(scope="module")
def clips():
    return {family: small_clip(family) for family in FAMILIES}


def same(conditioning, other):
    """Whether two conditionings are the same bit for bit, but for the groups that one may carry."""
    pairs = zip(conditioning, other, strict=True)
    return all(
        torch.equal(one, two)
        and set(known) - {PHRASES_KEY} == set(others)
        and torch.equal(known["pooled_output"], others["pooled_output"])
        for (one, known), (two, others) in pairs
    )


@pytest.mark.usefixtures("diffusers_door")
@pytest.mark.parametrize("suite", ["two-colours", "two-colours-apart"])
def test_the_rows_are_the_diffusers_doors_on_every_held_out_prompt(suite):
    clip, pipeline = demo()[1], load_demo()
    prompts = [prompt.text for prompt in load_suite(suite).parts["held-out"]]
    settings = {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
    differences = []
    for norm in ("none", "noun"):
        with apply_binding(pipeline, BindingConfig(norm=norm)), torch.no_grad():
            theirs = [pipeline.encode_prompt(prompt=prompt, **settings)[0][0] for prompt in prompts]
        for prompt, expected in zip(prompts, theirs, strict=True):
            own = rows(bind(clip, prompt, norm=norm).conditioning)
            assert own.abs().mean() > 0.1
            differences.append((own - expected).abs().max())
    worst = torch.stack(differences).max().item()  # NaN if any is
    print(f"{suite}: {len(prompts)} prompts, largest difference {worst:.1e}")
    assert len(prompts) == 150
    assert worst < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_the_rows_are_the_papers(clips, family):
    clip = clips[family]
    own, bare = rows(encode(clip, COLOURS)), rows(encode(clip, BARE))
    bound = rows(bind(clip, COLOURS).conditioning)
    assert torch.allclose(bound[3], own[2:4].sum(0), atol=1e-5)
    assert torch.allclose(bound[7], own[6:8].sum(0), atol=1e-5)
    assert torch.equal(bound[[0, 1, 4, 5]], own[[0, 1, 4, 5]])
    assert torch.equal(bound[8:], bare[6:75])
    assert torch.equal(bound[[2, 6]], bound[76].expand(2, -1))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "text", [COLOURS, "a (red:1.3) cat", "a ~red ^^cat~", "~", "(((", "a cat", "", "a red cat " * 30]
)
def test_strength_0_is_clip_text_encode_bit_for_bit(clips, family, text):
    assert same(bind(clips[family], text, strength=0).conditioning, encode(clips[family], text))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("text", ["a cat and a dog", "", "masterpiece, (best quality:1.2)", "赤い四角", "~10 apples"])
def test_a_prompt_without_groups_is_clip_text_encode_bit_for_bit(clips, family, text):
    bound = bind(clips[family], text)
    assert same(bound.conditioning, encode(clips[family], text))
    assert bound.report.startswith("No groups found.")


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_of_the_hosts_is_changed(clips, family):
    before = copy.deepcopy(encode(clips[family], COLOURS))
    bound = bind(clips[family], COLOURS).conditioning
    assert same(encode(clips[family], COLOURS), before)
    assert not torch.equal(rows(bound), rows(before))
    assert torch.equal(bound[0][1]["pooled_output"], before[0][1]["pooled_output"])


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_in_the_rows_that_are_merged(clips, family):
    text = "a ((red)) (circle:1.2) \\(x\\), and a blue square"
    own = rows(encode(clips[family], text))
    bound = bind(clips[family], text)
    group = bound.conditioning[0][1][PHRASES_KEY].groups[0]
    noun, said = list(group.noun), list(group.modifiers)
    assert torch.allclose(rows(bound.conditioning)[noun[0]], own[noun].sum(0) + own[said].sum(0), atol=1e-5)
    assert not torch.allclose(own, rows(encode(clips[family], "a red circle (x), and a blue square")), atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_chunk_is_bound_and_ends_as_it_would_without_attributes(clips, family):
    clip = clips[family]
    first, second = "and. " * 35 + "a red circle. And", "a blue square"
    bound = bind(clip, f"{first} {second}")
    groups = bound.conditioning[0][1][PHRASES_KEY].groups
    assert [(group.noun, group.modifiers) for group in groups] == [((73,), (72,)), ((80,), (79,))]
    found = rows(bound.conditioning)
    assert found.shape[0] == 154
    assert torch.allclose(found[76], rows(encode(clip, first.replace("red ", "")))[75], atol=1e-5)
    assert torch.allclose(found[81:154], rows(encode(clip, "a square"))[3:76], atol=1e-5)


def test_an_embedding_of_several_vectors_moves_what_follows(tmp_path):
    vectors = torch.randn(3, 64, generator=torch.Generator().manual_seed(0)) * 0.02
    save_file({"toy": vectors}, tmp_path / "toy.safetensors")
    clip = small_clip("sd15", tmp_path)
    text = "embedding:toy, a red circle and (embedding:toy:1.2) a embedding:none blue square"
    bound = bind(clip, text)
    groups = bound.conditioning[0][1][PHRASES_KEY].groups
    assert [(group.noun, group.modifiers) for group in groups] == [((7,), (6,)), ((14,), (13,))]
    own = rows(encode(clip, text))
    assert torch.allclose(rows(bound.conditioning)[7], own[6:8].sum(0), atol=1e-5)


def test_a_group_across_two_chunks_is_left_out_and_named(clips):
    text = "and. " * 36 + "a ~red and very very round circle~ and a ~green star~"
    bound = bind(clips["sd15"], text)
    assert "Left unbound: group must lie within one chunk" in bound.report
    assert bound.conditioning[0][1][PHRASES_KEY].parse.labels == ["star"]
