"""Merging once around a whole block, or a whole stack of them."""

import pytest
import torch
from torch import Tensor

from tome_core.speed import SpeedConfig, apply_speed

WHOLE = ("block", "stack")
STEPPED_BACK = ("attention", "mlp")


def averages(plan) -> tuple[Tensor, Tensor]:
    """Return U [B, N, M] and M [B, M, N] as dense matrices."""
    copies = torch.nn.functional.one_hot(plan.assignment).double()
    return copies, copies.transpose(1, 2) / copies.sum(1).unsqueeze(2)


def test_a_block_adds_to_every_token_what_it_adds_to_its_merged_one(new_unet, new_inputs, blocks):
    unet, inputs, calls = new_unet().double(), new_inputs(dtype=torch.float64), []
    block, text = blocks(unet, 1)[0], inputs["encoder_hidden_states"]
    with apply_speed(unet, SpeedConfig(parts="block")) as handle:
        block.register_forward_pre_hook(lambda module, args: calls.append(args[0]), prepend=True)
        block.register_forward_hook(lambda module, args, output: calls.append(output))
        unet(**inputs)
        unmerge, merge = averages(handle.plan(1, (16, 16)))
    x, got = calls[:2]
    merged = merge @ x
    torch.testing.assert_close(got, x + unmerge @ (block(merged, encoder_hidden_states=text) - merged))


def test_a_stack_is_merged_once_around_all_its_blocks(new_unet, new_inputs, blocks):
    unet, inputs, seen = new_unet("sdxl").double(), new_inputs(dtype=torch.float64), []
    first, second, last = inner = blocks(unet, 2)[:3]
    text = inputs["encoder_hidden_states"]
    with apply_speed(unet, SpeedConfig(parts="stack", levels=(2,))) as handle:
        first.register_forward_pre_hook(lambda module, args: seen.append(args[0]), prepend=True)
        second.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        last.register_forward_hook(lambda module, args, output: seen.append(output))
        unet(**inputs)
        unmerge, merge = averages(handle.plan(2, (4, 4)))
    x, inside, got = seen[:3]
    y = merged = merge @ x
    for block in inner:
        y = block(y, encoder_hidden_states=text)
    assert inside.shape[1] == 8
    torch.testing.assert_close(got, x + unmerge @ (y - merged))


@pytest.mark.parametrize("part", WHOLE)
@pytest.mark.parametrize("shape", ["sd15", "sd2", "sdxl"])
def test_every_model_runs_on_fewer_tokens_and_is_as_before_afterwards(new_unet, new_inputs, part, shape):
    unet, inputs = new_unet(shape), new_inputs(size=(18, 14))
    untouched = unet(**inputs).sample
    with apply_speed(unet, SpeedConfig(parts=part, levels=(1, 2))) as handle:
        merged = unet(**inputs).sample
    assert merged.isfinite().all()
    assert not torch.equal(merged, untouched)
    assert handle.report.merged_calls == 1
    assert torch.equal(unet(**inputs).sample, untouched)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in unet.modules())


@pytest.mark.parametrize("part", WHOLE)
def test_an_exception_inside_a_span_leaves_the_next_call_right(new_unet, new_inputs, blocks, part):
    unet, inputs = new_unet("sdxl"), new_inputs()
    with apply_speed(unet, SpeedConfig(parts=part, levels=(1, 2))):
        expected = unet(**inputs).sample
        fail_once(blocks(unet, 2)[1].ff)
        with pytest.raises(ZeroDivisionError):
            unet(**inputs)
        assert torch.equal(unet(**inputs).sample, expected)


def fail_once(module) -> None:
    """Make a module fail at its next call."""

    def fail(module, args):
        hook.remove()
        raise ZeroDivisionError

    hook = module.register_forward_pre_hook(fail)


@pytest.mark.parametrize("metric", ["latent", "estimate", "block"])
@pytest.mark.parametrize("part", WHOLE)
def test_gradient_checkpointing_gives_the_same_gradient(new_unet, new_inputs, part, metric):
    unet, gradients = new_unet().train(), []
    for enable in (unet.disable_gradient_checkpointing, unet.enable_gradient_checkpointing):
        enable()
        inputs = new_inputs()
        inputs["sample"].requires_grad_()
        with apply_speed(unet, SpeedConfig(parts=part, metric=metric)):
            unet(**inputs).sample.square().sum().backward()
        gradients.append(inputs["sample"].grad)
    torch.testing.assert_close(*gradients)


def test_a_stack_whose_blocks_are_checkpointed_steps_back(new_unet, new_inputs):
    unet, inputs = new_unet("sdxl").train(), new_inputs()
    unet.enable_gradient_checkpointing()
    with apply_speed(unet, SpeedConfig(parts="stack")) as handle:
        unet(**inputs)
    sentence = "level 1: stack stepped back to attention and mlp apart, gradient checkpointing runs its blocks again"
    assert handle.report.notes[-1].startswith(sentence)


@pytest.mark.parametrize("part", WHOLE)
def test_ip_adapter_masks_make_a_span_step_back(new_unet, new_inputs, part):
    unet, inputs = new_unet(), new_inputs()
    masks = {"ip_adapter_masks": [torch.ones(1, 1, 16, 16)]}
    with apply_speed(unet, SpeedConfig(parts=STEPPED_BACK, metric="latent")):
        expected = unet(**inputs, cross_attention_kwargs=masks).sample
    with apply_speed(unet, SpeedConfig(parts=part, metric="latent")) as handle:
        assert torch.equal(unet(**inputs, cross_attention_kwargs=masks).sample, expected)
    because = "IP-Adapter masks depend on the positions of the tokens"
    assert handle.report.notes == [f"level 1: {part} stepped back to attention and mlp apart, {because}"]
    assert set(handle.report.levels[0].kept[(16, 16)]) == set(STEPPED_BACK)


@pytest.mark.parametrize("part", WHOLE)
def test_a_foreign_attention_processor_makes_its_block_step_back(new_unet, new_inputs, blocks, record_attention, part):
    unet, inputs = new_unet("sdxl"), new_inputs()
    with apply_speed(unet, SpeedConfig(parts=STEPPED_BACK)):
        expected = unet(**inputs).sample
    seen = [record_attention(block.attn2) for block in blocks(unet, 1)]
    with apply_speed(unet, SpeedConfig(parts=part)) as handle:
        assert torch.equal(unet(**inputs).sample, expected)
    assert seen == [[64]] * 6  # every token of 8 x 8
    because = "its attention processor Recorder may depend on the positions of the tokens"
    assert handle.report.notes[1:] == [f"level 1: {part} stepped back to attention and mlp apart, {because}"]
    assert handle.report.levels[0].kept == {(8, 8): {"attention": 32, "mlp": 32}}


@pytest.mark.parametrize("part", WHOLE)
def test_a_recorder_anywhere_in_a_span_makes_that_span_step_back_and_no_other(
    new_unet, new_inputs, blocks, record_attention, part
):
    unet = new_unet("sdxl")
    last = blocks(unet, 2)[2]  # of the first stack
    record_attention(last.attn1)
    with apply_speed(unet, SpeedConfig(parts=part, levels=(1, 2))) as handle:
        unet(**new_inputs())
    assert part in handle.report.levels[0].kept[(8, 8)]
    assert set(handle.report.levels[1].kept[(4, 4)]) == {part, *STEPPED_BACK}


def test_forward_chunking_makes_a_block_step_back(new_unet, new_inputs, blocks):
    unet, inputs = new_unet(), new_inputs()
    for block in blocks(unet, 1):
        block.set_chunk_feed_forward(1, dim=0)
    with apply_speed(unet, SpeedConfig(parts=STEPPED_BACK)):
        expected = unet(**inputs).sample
    with apply_speed(unet, SpeedConfig(parts="block")) as handle:
        assert torch.equal(unet(**inputs).sample, expected)
    assert any("forward chunking" in note for note in handle.report.notes)


@pytest.mark.parametrize("part", WHOLE)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_kept(new_unet, new_inputs, relative_error, part, dtype):
    unet = new_unet()
    with apply_speed(unet, SpeedConfig(parts=part)):
        expected = unet(**new_inputs()).sample
    with apply_speed(unet.to(dtype), SpeedConfig(parts=part)):
        got = unet(**new_inputs(dtype=dtype)).sample
    assert got.dtype == dtype
    assert relative_error(got.float(), expected) < 0.1
