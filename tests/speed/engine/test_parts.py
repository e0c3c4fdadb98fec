"""What a UNet call computes when parts merge, and every way of calling it."""

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor

from tome_core.speed import SpeedConfig, apply_speed

EVERY_PART = ("attention", "cross_attention", "mlp")  # apart
METRICS = ["latent", "estimate", "block"]
ODD_SIZES = [(17, 23), (15, 16), (9, 33), (2, 64), (8, 8)]


def record(module, calls: list) -> None:
    """Append (input, output) of each call of a module."""
    module.register_forward_hook(lambda module, args, output: calls.append((args[0], output)))


def test_a_block_is_its_own_forward_on_averaged_tokens(new_unet, new_inputs, blocks):
    unet, inputs, calls = new_unet().double(), new_inputs(dtype=torch.float64), []
    block = blocks(unet, 1)[0]
    text = inputs["encoder_hidden_states"]
    with apply_speed(unet, SpeedConfig(parts=EVERY_PART)) as handle:
        record(block, calls)
        unet(**inputs)
        copies = torch.nn.functional.one_hot(handle.plan(1, (16, 16)).assignment).double()  # [B, N, M]
    average = copies.transpose(1, 2) / copies.sum(1).unsqueeze(2)
    x, got = calls[0]
    x = x + copies @ block.attn1(average @ block.norm1(x))
    x = x + copies @ block.attn2(average @ block.norm2(x), encoder_hidden_states=text)
    x = x + copies @ block.ff(average @ block.norm3(x))
    torch.testing.assert_close(got, x)


@pytest.mark.parametrize("part", EVERY_PART)
def test_only_the_chosen_part_runs_on_fewer_tokens(new_unet, new_inputs, blocks, part):
    unet, seen = new_unet(), {}
    block = blocks(unet, 1)[0]
    with apply_speed(unet, SpeedConfig(parts=part, ratio=0.25)):
        for name, module in (
            ("attention", block.attn1.to_q),
            ("cross_attention", block.attn2.to_q),
            ("mlp", block.ff.net),
        ):
            first = module[0] if name == "mlp" else module
            first.register_forward_pre_hook(lambda module, args, name=name: seen.update({name: args[0].shape[1]}))
        unet(**new_inputs())
    assert seen == {name: 192 if name == part else 256 for name in EVERY_PART}


@pytest.mark.parametrize("metric", ["latent", "block"])
def test_a_level_shares_a_plan_unless_each_block_is_matched(new_unet, new_inputs, blocks, metric):
    unet, plans = new_unet(), []
    with apply_speed(unet, SpeedConfig(metric=metric)) as handle:
        for block in blocks(unet, 1):
            block.attn1.to_q.register_forward_hook(lambda *_: plans.append(handle.plan(1, (16, 16))))
        unet(**new_inputs())
    assert len(plans) == 3
    assert len(set(map(id, plans))) == (1 if metric == "latent" else 3)


def test_positional_and_keyword_calls_agree(new_unet, new_inputs):
    unet, inputs = new_unet(), new_inputs()
    sample, timestep, text = inputs["sample"], inputs["timestep"], inputs["encoder_hidden_states"]
    for metric in METRICS:
        with apply_speed(unet, SpeedConfig(metric=metric, start_percent=0.1)) as handle:
            by_place = unet(sample, timestep, text, return_dict=False)[0]
            by_name = unet(sample=sample, timestep=timestep, encoder_hidden_states=text).sample
            assert handle.report.merged_calls == 2
        assert torch.equal(by_place, by_name)


@pytest.mark.parametrize("size", ODD_SIZES)
@pytest.mark.parametrize("metric", METRICS)
def test_sizes_that_do_not_divide_run_at_every_level(new_unet, new_inputs, size, metric):
    unet, inputs = new_unet(), new_inputs(batch=1, size=size)
    with apply_speed(unet, SpeedConfig(levels=(1, 2, 3, 4), parts=EVERY_PART, metric=metric)) as handle:
        assert unet(**inputs).sample.isfinite().all()
    for level in handle.report.levels:
        ((height, width), parts), *others = level.kept.items()
        merged = int(height * width * 0.5) if min(height, width) >= 2 else 0
        assert ({height * width - kept for kept in parts.values()}, others) == ({merged}, [])
        assert merged > 0 or any(note.startswith(f"level {level.level}: ") for note in handle.report.notes)


@pytest.mark.parametrize("metric", METRICS)
def test_a_coarser_level_merges_without_the_finest(new_unet, new_inputs, metric):
    unet = new_unet()
    with apply_speed(unet, SpeedConfig(levels=(3,), metric=metric)) as handle:
        unet(**new_inputs())
    assert [level.kept for level in handle.report.levels] == [{}, {}, {(4, 4): {"attention": 8}}, {}]


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("matching", ["bipartite", "window"])
def test_any_batch_runs(new_unet, new_inputs, relative_error, batch, matching):
    unet, inputs = new_unet(), new_inputs(batch=batch, size=(9, 7))
    untouched = unet(**inputs).sample
    with apply_speed(unet, SpeedConfig(matching=matching)):
        assert 1e-3 < relative_error(unet(**inputs).sample, untouched) < 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("metric", METRICS)
def test_half_precision_is_kept(new_unet, new_inputs, relative_error, dtype, metric):
    unet, config = new_unet(), SpeedConfig(metric=metric, parts=EVERY_PART)
    with apply_speed(unet, config):
        expected = unet(**new_inputs()).sample
    with apply_speed(unet.to(dtype), config):
        got = unet(**new_inputs(dtype=dtype)).sample
    assert got.dtype == dtype
    assert relative_error(got.float(), expected) < 0.1


@pytest.mark.parametrize("metric", METRICS)
def test_a_latent_of_zeros_gives_no_nan(new_unet, new_inputs, metric):
    unet, inputs = new_unet(), new_inputs()
    inputs["sample"] = torch.zeros_like(inputs["sample"])
    with apply_speed(unet, SpeedConfig(metric=metric)):
        assert unet(**inputs).sample.isfinite().all()


def test_two_runs_are_bit_equal(new_unet, new_inputs):
    unet, inputs, outputs = new_unet(), new_inputs(), []
    for _ in range(2):
        with apply_speed(unet, SpeedConfig(seed=3, levels=(1, 2))):
            outputs.append(unet(**inputs).sample)
    assert torch.equal(*outputs)


def test_a_call_of_another_size_is_not_disturbed_by_the_one_before(new_unet, new_inputs):
    unet, small, large = new_unet(), new_inputs(size=(8, 8)), new_inputs(size=(16, 24))
    with apply_speed(unet):
        alone = unet(**large).sample
    with apply_speed(unet) as handle:
        unet(**small)
        assert torch.equal(unet(**large).sample, alone)
        assert handle.report.levels[0].kept == {(8, 8): {"attention": 32}, (16, 24): {"attention": 192}}


def test_controlnet_residuals_arrive(new_unet, new_inputs, relative_error):
    unet, inputs = new_unet(), new_inputs()
    controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8)).eval()
    for convolution in [*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block]:
        torch.nn.init.normal_(convolution.weight, std=0.1)  # zero in a fresh ControlNet
    arguments = {name: inputs[name] for name in ("sample", "timestep", "encoder_hidden_states")}
    picture = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    down, mid = controlnet(**arguments, controlnet_cond=picture, return_dict=False)
    control = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
    untouched = unet(**inputs, **control).sample
    with apply_speed(unet, SpeedConfig(metric="latent")) as handle:
        merged = unet(**inputs, **control).sample
        assert relative_error(merged, untouched) < 0.2
        assert relative_error(unet(**inputs).sample, merged) > 0.01
    assert handle.report.notes == []


def test_a_controlnet_can_be_merged_itself(new_unet, new_inputs):
    controlnet = ControlNetModel.from_unet(new_unet(), conditioning_embedding_out_channels=(8, 8)).eval()
    inputs = {**new_inputs(), "controlnet_cond": torch.zeros(2, 3, 32, 32)}
    with apply_speed(controlnet) as handle:
        controlnet(**inputs)
    assert handle.report.levels[0].kept == {(16, 16): {"attention": 128}}


def test_cross_attention_arguments_reach_the_processors(new_unet, new_inputs):
    unet, seen = new_unet(), []

    class Processor:
        def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, strength=None):
            seen.append((strength, hidden_states.shape[1], encoder_hidden_states is None))
            return hidden_states

    unet.set_attn_processor(Processor())
    with apply_speed(unet):
        unet(**new_inputs(), cross_attention_kwargs={"strength": 0.7})
    assert seen[:2] == [(0.7, 128, True), (0.7, 256, False)]
    assert {strength for strength, _, _ in seen} == {0.7}


def test_a_mask_over_image_tokens_keeps_self_attention_unmerged(new_unet, new_inputs, stacks):
    unet, inputs = new_unet(), {**new_inputs(size=(8, 8)), "attention_mask": torch.ones(2, 64)}
    for level in (2, 3, 4):  # one mask cannot suit more than one level
        for transformer in stacks(unet, level):
            transformer.register_forward_pre_hook(without_mask, with_kwargs=True)
    untouched = unet(**inputs).sample
    with apply_speed(unet, SpeedConfig(metric="latent")) as handle:
        assert torch.equal(unet(**inputs).sample, untouched)
    assert (handle.report.merged_calls, handle.report.untouched_calls) == (0, 1)
    assert handle.report.notes == [
        "level 1: attention ran unmerged, its attention mask depends on the positions of the tokens"
    ]
    assert handle.report.levels[0].kept == {}


def test_a_mask_over_the_text_allows_merging(new_unet, new_inputs, relative_error):
    unet, inputs = new_unet(), new_inputs()
    inputs["encoder_attention_mask"] = torch.ones(2, 7).tril(3)
    untouched = unet(**inputs).sample
    with apply_speed(unet, SpeedConfig(parts=EVERY_PART, metric="latent")) as handle:
        assert 1e-3 < relative_error(unet(**inputs).sample, untouched) < 0.5
    assert handle.report.notes == []


def test_ip_adapter_masks_keep_cross_attention_unmerged(new_unet, new_inputs):
    unet, inputs = new_unet(), new_inputs()
    masks = {"ip_adapter_masks": [torch.ones(1, 1, 16, 16)]}
    with apply_speed(unet, SpeedConfig(parts="attention", metric="latent")) as handle:
        only_attention = unet(**inputs, cross_attention_kwargs=masks).sample
        assert handle.report.notes == []
    with apply_speed(unet, SpeedConfig(parts=("attention", "cross_attention"), metric="latent")) as handle:
        assert torch.equal(unet(**inputs, cross_attention_kwargs=masks).sample, only_attention)
    (note,) = handle.report.notes
    assert note.startswith("level 1: cross_attention ran unmerged, IP-Adapter masks")


def test_another_tools_processor_sees_every_token_of_cross_attention_and_self_attention_merges(
    new_unet, new_inputs, blocks, record_attention
):
    unet, inputs, config = (
        new_unet(),
        new_inputs(),
        SpeedConfig(parts=("attention", "cross_attention"), metric="latent"),
    )
    with apply_speed(unet, SpeedConfig(metric="latent")):
        expected = unet(**inputs).sample
    seen = {name: [record_attention(getattr(x, name)) for x in blocks(unet, 1)] for name in ("attn1", "attn2")}
    with apply_speed(unet, config) as handle:
        assert torch.equal(unet(**inputs).sample, expected)
    assert seen == {"attn1": [[128]] * 3, "attn2": [[256]] * 3}
    (note,) = handle.report.notes
    assert note.startswith("level 1: cross_attention ran unmerged, its attention processor Recorder")


def test_a_level_of_fewer_tokens_than_asked_for_is_untouched(new_unet, new_inputs):
    unet, inputs = new_unet(), new_inputs()
    with apply_speed(unet, SpeedConfig(levels=1, metric="latent")):
        expected = unet(**inputs).sample
    with apply_speed(unet, SpeedConfig(levels=(1, 2), metric="latent", min_tokens=65)) as handle:
        for _ in range(2):
            assert torch.equal(unet(**inputs).sample, expected)
    assert handle.report.levels[1].kept == {}
    assert len(handle.report.notes) == 1


@pytest.mark.parametrize(("dim", "chunk"), [(0, 1), (1, 128)])  # 128 tokens: as many as a plan keeps
def test_forward_chunking_runs_the_mlp_unmerged(new_unet, new_inputs, blocks, dim, chunk):
    unet, inputs, config = new_unet(), new_inputs(), SpeedConfig(parts=("attention", "mlp"), metric="latent")
    for block in blocks(unet, 1):
        block.set_chunk_feed_forward(chunk, dim=dim)
    with apply_speed(unet, SpeedConfig(parts="attention", metric="latent")):
        only_attention = unet(**inputs).sample
    with apply_speed(unet, config) as handle:
        assert torch.equal(unet(**inputs).sample, only_attention)
    got = f"it got {[1, 256, 16] if dim == 0 else [2, 128, 16]} instead of [2, 256, C]"
    assert handle.report.notes == [
        f"level 1: mlp ran unmerged, {got}: another patch merges or tiles, or chunking slices it"
    ]


@pytest.mark.parametrize("metric", METRICS)
def test_gradient_checkpointing_gives_the_same_gradient(new_unet, new_inputs, metric):
    unet, gradients = new_unet().train(), []
    for enable in (unet.disable_gradient_checkpointing, unet.enable_gradient_checkpointing):
        enable()
        inputs = new_inputs()
        inputs["sample"].requires_grad_()
        with apply_speed(unet, SpeedConfig(metric=metric, parts=EVERY_PART, levels=(1, 2))):
            unet(**inputs).sample.square().sum().backward()
        gradients.append(inputs["sample"].grad)
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(*gradients)


def test_outside_the_chosen_part_of_the_run_the_model_is_untouched(new_unet, new_inputs):
    unet, inputs = new_unet(), new_inputs()
    untouched = unet(**inputs).sample  # at timestep 500
    with apply_speed(unet, SpeedConfig(end_percent=0.4)) as handle:
        assert torch.equal(unet(**inputs).sample, untouched)
        assert not torch.equal(unet(**{**inputs, "timestep": 700}).sample, unet(**{**inputs, "timestep": 500}).sample)
        assert (handle.report.merged_calls, handle.report.untouched_calls) == (1, 2)


def test_a_call_whose_plan_merges_nothing_counts_as_untouched(new_unet, new_inputs):
    unet = new_unet()
    with apply_speed(unet, SpeedConfig(levels=(4,))) as handle:
        unet(**new_inputs(size=(8, 8)))  # one token at level 4
        assert (handle.report.merged_calls, handle.report.untouched_calls) == (0, 1)
        unet(**new_inputs(size=(16, 16)))
        assert (handle.report.merged_calls, handle.report.untouched_calls) == (1, 1)


def test_an_input_that_is_no_batch_of_images_counts_as_untouched_also_after_one_that_is(new_unet, new_inputs):
    unet = new_unet()
    with apply_speed(unet, SpeedConfig(metric="latent")) as handle:
        unet(**new_inputs())
        unet.forward = lambda sample, timestep: sample  # as a model of videos would take it
        unet(torch.zeros(1, 4, 3, 8, 8), 500)
        assert handle.plan(1, (16, 16)) is None
    assert (handle.report.merged_calls, handle.report.untouched_calls) == (1, 1)
    assert handle.report.notes == ["a model input that is no batch of images [B, C, height, width] merges nothing"]


def test_channels_behind_the_latents_do_not_enter_its_plan(new_unet, new_inputs):
    unet, inputs = new_unet(in_channels=8), new_inputs()
    latent, pictures = inputs["sample"][:1].expand(2, -1, -1, -1), inputs["sample"]
    inputs["sample"] = torch.cat([latent, pictures], dim=1)  # InstructPix2Pix: one row has the picture, one has not
    with apply_speed(unet, SpeedConfig(metric="latent")) as handle:
        unet(**inputs)
        rows = handle.plan(1, (16, 16)).assignment
    assert torch.equal(rows[0], rows[1])


def test_a_transformer_called_outside_its_model_is_untouched_also_after_a_call_that_failed(
    new_unet, new_inputs, blocks, stacks
):
    unet, inputs = new_unet(), new_inputs()
    transformer, x, text = stacks(unet, 1)[0], torch.randn(2, 16, 16, 16), inputs["encoder_hidden_states"]
    (untouched,) = transformer(x, text, return_dict=False)
    with apply_speed(unet):
        unet(**inputs)
        assert torch.equal(transformer(x, text, return_dict=False)[0], untouched)
        hook = blocks(unet, 1)[-1].ff.register_forward_pre_hook(lambda module, args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            unet(**inputs)
        hook.remove()
        assert torch.equal(transformer(x, text, return_dict=False)[0], untouched)


def test_a_wrong_call_fails_as_it_does_without_merging_and_a_video_is_named(new_unet, new_inputs):
    unet, inputs = new_unet(), new_inputs()
    with apply_speed(unet, SpeedConfig(metric="latent")) as handle:
        with pytest.raises(TypeError, match="sample"):
            unet(timestep=500, encoder_hidden_states=inputs["encoder_hidden_states"])
        with pytest.raises(RuntimeError):
            unet(torch.zeros(2, 4, 3, 16, 16), 500, inputs["encoder_hidden_states"])
    assert handle.report.notes == ["a model input that is no batch of images [B, C, height, width] merges nothing"]


def test_hooks_that_were_there_before_see_every_token(new_unet, new_inputs, blocks):
    unet: UNet2DConditionModel = new_unet()
    calls: list[tuple[Tensor, Tensor]] = []
    record(blocks(unet, 1)[0].attn1, calls)
    with apply_speed(unet):
        unet(**new_inputs())
    assert calls[0][1].shape[1] == 256


def without_mask(module, args, kwargs):
    return args, {**kwargs, "attention_mask": None}
