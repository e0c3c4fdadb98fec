"""Keys and values of self-attention that are others than its queries."""

import pytest
import torch

from tome_core.merging import MergePlan
from tome_core.speed import SpeedConfig, apply_speed
from tome_core.speed.diffusers_layout import find_levels


def tokens_seen(unet) -> dict[str, int]:
    """Return a dict that will hold how many tokens the first block's projections get."""
    seen: dict[str, int] = {}
    attention = find_levels(unet)[0].blocks[0].attn1
    for name in ("to_q", "to_k", "to_v"):
        module = getattr(attention, name)
        module.register_forward_pre_hook(lambda module, args, name=name: seen.update({name: args[0].shape[1]}))
    return seen


def test_keys_merge_by_a_ratio_of_their_own(new_unet, new_inputs):
    unet = new_unet()
    seen = tokens_seen(unet)
    with apply_speed(unet, SpeedConfig(ratio=0.25, kv_ratio=0.75)) as handle:
        unet(**new_inputs())
    assert seen == {"to_q": 192, "to_k": 64, "to_v": 64}
    assert handle.report.levels[0].kept == {(16, 16): {"keys": 64, "attention": 192}}
    assert "192 (75%) in attention" in str(handle.report)


def test_keys_can_stay_whole_while_queries_merge(new_unet, new_inputs):
    unet = new_unet()
    seen = tokens_seen(unet)
    with apply_speed(unet, SpeedConfig(ratio=0.5, kv_ratio=0.0)):
        unet(**new_inputs())
    assert seen == {"to_q": 128, "to_k": 256, "to_v": 256}


@pytest.mark.parametrize("size", [(16, 16), (9, 7)])
def test_downsampled_keys_are_every_other_token_of_every_other_row(new_unet, new_inputs, size):
    unet, inputs, seen = new_unet().double(), new_inputs(size=size, dtype=torch.float64), []
    attention = find_levels(unet)[0].blocks[0].attn1
    with apply_speed(unet, SpeedConfig(ratio=0, kv_downsample=2)) as handle:
        attention.register_forward_hook(lambda module, args, output: seen.append((args[0], output)))
        unet(**inputs)
    (x, got), *_ = seen
    height, width = size
    grid = torch.arange(height * width).reshape(size)[::2, ::2].flatten()
    torch.testing.assert_close(got, attention(x, encoder_hidden_states=x[:, grid]))
    assert handle.report.merged_calls == 1
    assert handle.report.levels[0].kept == {size: {"keys": len(grid)}}


@pytest.mark.parametrize("settings", [{}, {"ratio": 0.0, "kv_ratio": 0.5}, {"parts": "block"}])
def test_keys_that_count_by_their_sizes_make_merging_equal_tokens_exact(new_unet, new_inputs, settings):
    unet, inputs = new_unet().double(), new_inputs(dtype=torch.float64)
    block = find_levels(unet)[0].blocks[0]
    attention, errors = block.attn1, {}
    x = torch.randn(2, 256, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    same = torch.arange(256) - torch.arange(256) % 2  # each even token and its right neighbour are equal,
    same[128:] = torch.arange(128, 256)  # in the upper half only: sizes differ
    x = x[:, same]
    expected = attention(x)
    representatives = same.repeat(2, 1)
    plan = MergePlan.from_representatives(representatives, 192)
    for proportional in (False, True):
        with apply_speed(unet, SpeedConfig(**{"ratio": 0.25, **settings}, proportional=proportional)) as handle:
            unet(**inputs)
            hooks = handle._transformers[0]
            hooks._site.grid = (16, 16)
            handle.state._plans = {(1, (16, 16), r): plan for r in range(256)}
            if settings.get("parts") == "block":
                hooks._site.span = plan
                got = plan.unmerge(attention(plan.merge(x)))
            else:
                got = attention(x)
            errors[proportional] = (got - expected).abs().max().item()
    assert errors[True] < 1e-8 < 1e-3 < errors[False]  # sizes are float32


def test_fused_projections_keep_the_keys_of_their_queries(new_unet, new_inputs):
    unet, inputs = new_unet(), new_inputs()
    unet.fuse_qkv_projections()
    with apply_speed(unet, SpeedConfig(ratio=0.25, metric="stem")):
        expected = unet(**inputs).sample
    with apply_speed(unet, SpeedConfig(ratio=0.25, kv_ratio=0.75, metric="stem")) as handle:
        assert torch.equal(unet(**inputs).sample, expected)
    assert handle.report.notes == [
        "level 1: keys ran unmerged, its projections are fused (unfuse_qkv_projections() parts them)"
    ]


def test_a_mask_over_image_tokens_keeps_the_keys_whole(new_unet, new_inputs):
    unet = new_unet()
    attention, x = find_levels(unet)[0].blocks[0].attn1, torch.randn(2, 256, 16)
    mask = torch.zeros(2, 1, 256)
    expected = attention(x, attention_mask=mask)
    with apply_speed(unet, SpeedConfig(kv_ratio=0.5, metric="stem")) as handle:
        unet(**new_inputs())
        handle._transformers[0]._site.grid = (16, 16)
        assert torch.equal(attention(x, attention_mask=mask), expected)
    assert "keys ran unmerged, its attention mask counts the tokens by place" in handle.report.notes[0]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"mlp_ratio": 0.2}, "mlp_ratio has no effect: mlp is not among the parts"),
        (
            {"parts": "mlp", "kv_ratio": 0.2},
            "kv_ratio and kv_downsample have no effect: attention is not among the parts",
        ),
        ({"parts": "mlp", "proportional": True}, "proportional has no effect: no keys are merged"),
    ],
)
def test_a_setting_without_effect_says_so(new_unet, settings, sentence):
    with apply_speed(new_unet(), SpeedConfig(**settings, metric="stem")) as handle:
        assert handle.report.notes == [sentence]
