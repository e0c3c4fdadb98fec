"""A new kind of network is one layout file, and a new host one door file: a toy of each, and nothing else changed."""

import pytest
import torch

from tests.doors import toy_layout
from tests.doors.toy_host import ToyHost, patch_toy
from tests.doors.toy_network import ToyTransformer
from tome_core.speed import SpeedConfig, apply_speed_to_module

FORMS = [{"parts": "block"}, {"parts": "stack"}, {"parts": "mlp"}]


def inputs(size=(6, 8)):
    random = torch.Generator().manual_seed(0)
    return (
        torch.randn(2, 4, *size, generator=random),
        torch.tensor([500.0, 500.0]),
        torch.randn(2, 5, 16, generator=random),
    )


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("metric", ["estimate", "latent", "block"])
def test_a_transformer_of_joint_sequences_merges_by_its_layout_alone(form, metric, traces):
    network, (x, t, text) = ToyTransformer(), inputs()
    plain, before = network(x, t, text), traces(network)
    layout = toy_layout.read_layout(network)
    with apply_speed_to_module(network, SpeedConfig(**form, metric=metric), layout=layout) as handle:
        merged = network(x, t, text)
    assert not torch.equal(merged, plain) and ((merged - plain).norm() / plain.norm()).item() < 0.5
    assert handle.report.levels[0].kept == {(6, 8): {form["parts"]: 24}}
    assert traces(network) == before
    assert torch.equal(network(x, t, text), plain)


def test_blocks_of_a_joint_sequence_give_what_a_slow_reference_gives():
    network, (x, t, text) = ToyTransformer().double(), inputs()
    x, t, text = x.double(), t.double(), text.double()
    config = SpeedConfig(parts="block", metric="latent")
    with apply_speed_to_module(network, config, layout=toy_layout.read_layout(network)) as handle:
        got = network(x, t, text)
        plan = handle.plan(1, (6, 8), "block")
    assert plan is not None
    tokens, rows = network.entry(x.flatten(2).transpose(1, 2)) + t.reshape(-1, 1, 1).sin(), text.shape[1]
    positions = torch.arange(rows + 48, dtype=torch.float32).unsqueeze(0) / 10
    kept = torch.stack([torch.cat([positions[0, :rows], positions[0, rows:][own]]) for own in plan.kept_tokens])
    for block in network.double_blocks:
        merged = plan.merge(tokens)
        text, after = block(text=text, image=merged, positions=kept)
        tokens = tokens + plan.unmerge(after - merged)
    joint = torch.cat([text, tokens], dim=1)
    for block in network.single_blocks:
        merged = torch.cat([joint[:, :rows], plan.merge(joint[:, rows:])], dim=1)
        after = block(merged, positions=kept)
        image = joint[:, rows:] + plan.unmerge((after - merged)[:, rows:])
        joint = torch.cat([after[:, :rows], image], dim=1)
    expected = network.exit(joint[:, rows:]).transpose(1, 2).unflatten(2, (6, 8))
    torch.testing.assert_close(got, expected)


def test_merging_equal_tokens_at_equal_places_is_exact():
    network, (_, t, text) = ToyTransformer(), inputs()
    x = torch.randn(2, 4, 1, 1, generator=torch.Generator().manual_seed(1)).expand(2, 4, 6, 8)
    for block in (*network.double_blocks, *network.single_blocks):
        block.qkv.weight[: 2 * 16] = 0  # every token attends alike, so that places do not matter
        block.qkv.bias[: 2 * 16] = 0
    plain = network(x, t, text)
    layout = toy_layout.read_layout(network)
    with apply_speed_to_module(network, SpeedConfig(parts="mlp", metric="latent"), layout=layout) as handle:
        torch.testing.assert_close(network(x, t, text), plain)
    assert handle.report.levels[0].kept == {(6, 8): {"mlp": 24}}


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_host_of_its_own_merges_by_its_door_alone(form, traces):
    (noise, _, text), host = inputs(), ToyHost(ToyTransformer())
    plain, before = host.sample(noise, text, 8), traces(host.network)
    report, close = patch_toy(host, toy_layout.read_layout(host.network), SpeedConfig(**form, start_percent=0.2))
    merged = host.sample(noise, text, 8)
    assert not torch.equal(merged, plain)
    assert (report.merged_calls, report.untouched_calls) == (6, 2)
    assert (report.metric, report.blind_calls) == ("estimate", 0)  # two steps are alone, the third knows the first
    assert torch.equal(host.sample(noise, text, 8), merged)
    hook = host.network.single_blocks[1].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        host.sample(noise, text, 8)
    hook.remove()
    assert torch.equal(host.network(noise, torch.ones(2), text), ToyTransformer()(noise, torch.ones(2), text))
    close()
    assert traces(host.network) == before
    assert torch.equal(host.sample(noise, text, 8), plain)
