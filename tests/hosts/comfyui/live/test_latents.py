"""What the speed nodes do to latents in a real ComfyUI, and that nothing of it stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.hosts.comfyui.live.graphs import SPEED, advanced, drawing, node, speed
from tests.hosts.comfyui.live.server import Server

Draw = Callable[[dict[str, Any]], torch.Tensor]


@pytest.mark.parametrize(
    "patches",
    [
        pytest.param([], id="removed, which is also what bypassing a node does"),
        pytest.param([speed("off")], id="preset off"),
        pytest.param([speed("fast", 0.0)], id="strength 0"),
        pytest.param([advanced(ratio=0.0)], id="ratio 0"),
        pytest.param([speed("fast"), advanced(ratio=0.0)], id="a later node that switches off an earlier one"),
    ],
)
def test_switched_off_is_bit_identical_to_a_host_without_the_suite(draw: Draw, plain_latents: Any, patches: Any):
    assert torch.equal(draw(drawing("demo", *patches)), plain_latents["demo"])


def test_merging_changes_the_latent_the_same_way_each_time(draw: Draw, plain_latents: Any):
    first = draw(drawing("demo", speed("fast")))
    assert torch.isfinite(first).all()
    assert not torch.equal(first, plain_latents["demo"])
    draw(drawing("demo"))
    assert torch.equal(draw(drawing("demo", speed("fast"), seed=0)), first)


def test_of_two_nodes_in_a_chain_the_later_one_counts(draw: Draw):
    alone = draw(drawing("demo", advanced(ratio=0.25)))
    assert torch.equal(draw(drawing("demo", speed("fast"), advanced(ratio=0.25))), alone)


def test_sdxl_is_really_merged_where_the_built_in_node_does_nothing(draw: Draw, plain_latents: Any):
    built_in = node("TomePatchModel", ratio=0.5)
    assert torch.equal(draw(drawing("sdxl", built_in)), plain_latents["sdxl"])
    merged = draw(drawing("sdxl", advanced(ratio=0.5)))
    assert torch.isfinite(merged).all()
    assert not torch.equal(merged, plain_latents["sdxl"])


def test_a_model_that_cannot_be_merged_passes_through_and_the_node_says_so(server: Server, plain_latents: Any):
    from tests.hosts.comfyui.live.conftest import latent_of

    run = server.run(drawing("flux", speed("fast")))
    assert torch.equal(latent_of(server, run), plain_latents["flux"])
    texts = [text for name, text in run.texts if name == SPEED]
    assert texts and texts[0].startswith("The model passes through as it came: "), run.texts


def test_twenty_prompts_on_and_off_with_a_failure_and_an_interruption_leave_no_trace(
    server: Server, draw: Draw, plain_latents: Any
):
    for number in range(20):
        patches = [speed("fast", 0.5 + number / 40)] if number % 2 else []
        if number == 7:
            failed = server.run(drawing("demo", *patches, node("TestFailure"), seed=number))
            assert "planned failure" in failed.error
        elif number == 13:
            stopped = server.run(drawing("demo", *patches, steps=30, seed=number), interrupt_after=2)
            assert stopped.error == "interrupted"
        else:
            assert torch.isfinite(draw(drawing("demo", *patches, seed=number))).all()
    last = drawing("demo", seed=0)
    last["99"] = node("SaveLatent", samples=["6", 0], filename_prefix="latents/again")
    assert torch.equal(draw(last), plain_latents["demo"])
