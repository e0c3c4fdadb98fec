"""Keys and values of self-attention that are others than its queries, or that count more than once."""

from typing import Any

import pytest
import torch
from diffusers.pipelines.deprecated.text_to_video_synthesis.pipeline_text_to_video_zero import (
    CrossFrameAttnProcessor2_0,
)
from torch import Tensor

from tome_core.merging import MergePlan
from tome_core.speed import SpeedConfig, apply_speed


def tokens_seen(attention: Any) -> dict[str, int]:
    """Return a dict that will hold how many tokens the projections of an attention get."""
    seen: dict[str, int] = {}
    for name in ("to_q", "to_k", "to_v"):
        module = getattr(attention, name)
        module.register_forward_pre_hook(lambda module, args, name=name: seen.update({name: args[0].shape[1]}))
    return seen


def record(attention: Any) -> list[tuple[Tensor, Tensor]]:
    """Return a list that gets the input and the output of each call of an attention."""
    calls: list[tuple[Tensor, Tensor]] = []
    attention.register_forward_hook(lambda module, args, output: calls.append((args[0], output)))
    return calls


def give(attention: Any, **arguments: Any) -> None:
    """Hook an attention as another tool does, which gives it arguments of its own."""
    attention.register_forward_pre_hook(lambda module, args, kwargs: (args, {**kwargs, **arguments}), with_kwargs=True)


def test_keys_merge_by_a_ratio_of_their_own(new_unet, new_inputs, blocks):
    unet = new_unet()
    seen = tokens_seen(blocks(unet, 1)[0].attn1)
    with apply_speed(unet, SpeedConfig(ratio=0.25, kv_ratio=0.75)) as handle:
        unet(**new_inputs())
    assert seen == {"to_q": 192, "to_k": 64, "to_v": 64}
    assert handle.report.levels[0].kept == {(16, 16): {"keys": 64, "attention": 192}}
    assert "192 (75%) in attention" in str(handle.report)


def test_keys_can_stay_whole_while_queries_merge(new_unet, new_inputs, blocks):
    unet = new_unet()
    seen = tokens_seen(blocks(unet, 1)[0].attn1)
    with apply_speed(unet, SpeedConfig(ratio=0.5, kv_ratio=0.0)):
        unet(**new_inputs())
    assert seen == {"to_q": 128, "to_k": 256, "to_v": 256}


@pytest.mark.parametrize("size", [(16, 16), (9, 7)])
def test_downsampled_keys_are_every_other_token_of_every_other_row(new_unet, new_inputs, blocks, size):
    unet, inputs = new_unet().double(), new_inputs(size=size, dtype=torch.float64)
    attention = blocks(unet, 1)[0].attn1
    with apply_speed(unet, SpeedConfig(ratio=0, kv_downsample=2)) as handle:
        calls = record(attention)
        unet(**inputs)
    x, got = calls[0]
    height, width = size
    grid = torch.arange(height * width).reshape(size)[::2, ::2].flatten()
    torch.testing.assert_close(got, attention(x, encoder_hidden_states=x[:, grid]))
    assert handle.report.merged_calls == 1
    assert handle.report.levels[0].kept == {size: {"keys": len(grid)}}


@pytest.mark.parametrize("settings", [{}, {"ratio": 0.0, "kv_ratio": 0.25}, {"parts": "block"}])
def test_keys_that_count_by_their_sizes_make_merging_equal_tokens_exact(new_unet, new_inputs, blocks, settings):
    unet, inputs = new_unet().double(), new_inputs(dtype=torch.float64)
    attention, errors = blocks(unet, 1)[0].attn1, {}
    x = torch.randn(2, 256, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    same = torch.arange(256) - torch.arange(256) % 2  # each even token and its right neighbour are equal,
    same[128:] = torch.arange(128, 256)  # in the upper half only: sizes differ
    x = x[:, same]
    expected = attention(x)
    plan = MergePlan.from_representatives(same.repeat(2, 1), 192)
    is_inside = settings.get("parts") == "block"  # there attention has merged tokens anyway
    attention.register_forward_pre_hook(lambda module, args: (plan.merge(x) if is_inside else x,))
    calls = record(attention)
    for proportional in (False, True):
        config = SpeedConfig(**{"ratio": 0.25, **settings}, proportional=proportional)
        with apply_speed(unet, config, matcher=lambda *_: plan):
            calls.clear()
            unet(**inputs)
        got = plan.unmerge(calls[0][1]) if is_inside else calls[0][1]
        errors[proportional] = (got - expected).abs().max().item()
    assert errors[True] < 1e-8 < 1e-3 < errors[False]  # sizes are float32


OWN_KEYS = [{"kv_ratio": 0.75}, {"kv_downsample": 2}]


@pytest.mark.parametrize("settings", OWN_KEYS)
def test_fused_projections_keep_the_keys_of_their_queries(new_unet, new_inputs, settings):
    unet, inputs = new_unet(), new_inputs()
    unet.fuse_qkv_projections()
    with apply_speed(unet, SpeedConfig(ratio=0.25, metric="latent")):
        expected = unet(**inputs).sample
    with apply_speed(unet, SpeedConfig(ratio=0.25, metric="latent", **settings)) as handle:
        assert torch.equal(unet(**inputs).sample, expected)
    assert handle.report.notes == [
        "level 1: keys are those of the queries, its projections are fused (unfuse_qkv_projections() parts them)"
    ]
    assert handle.report.levels[0].kept == {(16, 16): {"attention": 192}}


@pytest.mark.parametrize("parts", ["attention", "block"])
def test_keys_of_fused_projections_count_once_each(new_unet, new_inputs, parts):
    unet, inputs = new_unet(), new_inputs()
    unet.fuse_qkv_projections()
    with apply_speed(unet, SpeedConfig(parts=parts, metric="latent")):
        expected = unet(**inputs).sample
    with apply_speed(unet, SpeedConfig(parts=parts, metric="latent", proportional=True)) as handle:
        assert torch.equal(unet(**inputs).sample, expected)
    assert handle.report.notes[-1].startswith("level 1: merged keys count once each, its projections are fused")


@pytest.mark.parametrize("settings", [{}, *OWN_KEYS, {"proportional": True}])
def test_a_mask_over_image_tokens_keeps_an_attention_unmerged(new_unet, new_inputs, blocks, settings):
    unet, inputs = new_unet(), new_inputs()
    attention = blocks(unet, 1)[0].attn1
    mask = torch.randn(2, 1, 256, generator=torch.Generator().manual_seed(4))
    give(attention, attention_mask=mask)
    calls = record(attention)
    with apply_speed(unet, SpeedConfig(metric="latent", **settings)) as handle:
        unet(**inputs)
    x, got = calls[0]
    assert torch.equal(got, attention(x, attention_mask=mask))
    (note,) = handle.report.notes
    assert note.startswith("level 1: attention ran unmerged, its attention mask")


@pytest.mark.parametrize("settings", [*OWN_KEYS, {"proportional": True}, {"ratio": 0.0, "kv_downsample": 2}])
def test_keys_that_another_tool_gives_are_never_overwritten(new_unet, new_inputs, blocks, settings):
    unet, inputs = new_unet(), new_inputs()
    attentions = [block.attn1 for block in blocks(unet, 1)]
    reference = torch.randn(2, 40, 16, generator=torch.Generator().manual_seed(4))  # such as of another picture
    for attention in attentions:
        give(attention, encoder_hidden_states=reference)
    seen = tokens_seen(attentions[0])
    with apply_speed(unet, SpeedConfig(metric="latent", ratio=settings.get("ratio", 0.5))):
        expected = unet(**inputs).sample
    with apply_speed(unet, SpeedConfig(metric="latent", **settings)) as handle:
        assert torch.equal(unet(**inputs).sample, expected)
    assert (seen["to_k"], seen["to_v"]) == (40, 40)
    assert "keys" not in handle.report.levels[0].kept.get((16, 16), {})
    assert handle.report.notes == [
        "level 1: attention merged its queries alone, another tool gives it other keys or values"
    ]


@pytest.mark.parametrize("settings", [{}, *OWN_KEYS, {"proportional": True}])
def test_a_frame_still_looks_at_the_first_one(new_unet, new_inputs, relative_error, settings):
    unet, inputs = new_unet(), new_inputs()
    unet.set_attn_processor(CrossFrameAttnProcessor2_0(batch_size=1))
    frames, other = inputs["sample"], torch.cat([new_inputs(batch=3)["sample"][2:], inputs["sample"][1:]])
    with apply_speed(unet, SpeedConfig(metric="latent", levels=(1, 2, 3, 4), **settings)) as handle:
        first, second = (unet(**{**inputs, "sample": x}).sample[1] for x in (frames, other))
    assert relative_error(first, second) > 1e-3
    assert "keys" not in handle.report.levels[0].kept[(16, 16)]
    assert any("CrossFrameAttnProcessor2_0 chooses keys of its own" in note for note in handle.report.notes) == bool(
        settings
    )


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"mlp_ratio": 0.2}, "mlp_ratio has no effect: mlp is not among the parts"),
        (
            {"parts": "mlp", "kv_ratio": 0.2},
            "kv_ratio and kv_downsample have no effect: attention is not among the parts",
        ),
        ({"parts": "mlp", "proportional": True}, "proportional has no effect: no keys are merged"),
        ({"kv_downsample": 2, "proportional": True}, "proportional has no effect: no keys are merged"),
    ],
)
def test_a_setting_without_effect_says_so(new_unet, settings, sentence):
    with apply_speed(new_unet(), SpeedConfig(**settings, metric="latent")) as handle:
        assert handle.report.notes == [sentence]
