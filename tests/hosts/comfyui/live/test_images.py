"""Pictures: what is written into their metadata, and what the nodes say of them."""

from __future__ import annotations

import json
from typing import Any

from PIL import Image

import tome_core
from tests.hosts.comfyui.live.graphs import SPEED, drawing, node, picture, speed
from tests.hosts.comfyui.live.server import Server


def metadata(server: Server, graph: dict[str, Any]) -> dict[str, Any]:
    run = server.run(graph)
    assert not run.error, run.error
    saved = run.outputs["9"]["images"][0]
    with Image.open(server.base / "output" / saved["subfolder"] / saved["filename"]) as image:
        return {name: json.loads(text) for name, text in image.text.items()}  # type: ignore[attr-defined]


def test_settings_and_version_are_in_the_picture_also_when_the_node_was_cached(server: Server):
    for seed in (0, 1):
        found = metadata(server, picture(drawing("demo", speed("fast"), seed=seed)))
        assert found["tome_suite"] == {"version": tome_core.__version__}
        assert found["prompt"][SPEED]["inputs"]["preset"] == "fast"


def test_a_picture_without_our_nodes_does_not_name_us(server: Server):
    assert "tome_suite" not in metadata(server, picture(drawing("demo")))


def test_the_node_says_before_a_run_what_it_will_do_and_after_it_what_it_did(server: Server):
    run = server.run(drawing("demo", speed("fast"), seed=11))
    before, after = [text for name, text in run.texts if name == SPEED]
    assert run.outputs[SPEED]["text"] == [before] and before.startswith("Will merge ")
    assert after.startswith("This run took ") and "Merged tokens in" in after
    again = [text for name, text in server.run(drawing("demo", speed("fast"), seed=12)).texts if name == SPEED]
    assert len(again) == 1 and again[0].startswith("This run took "), "the cached node reports its new run"


def test_equal_pictures_compare_as_equal(server: Server):
    graph = picture(drawing("demo"))
    graph["20"] = node("ToMeCompare", image_a=["8", 0], image_b=["8", 0], gain=4.0)
    run = server.run(graph)
    assert ("20", "the images are equal") in run.texts
    assert run.outputs["20"]["text"] == ["the images are equal"]
    assert run.outputs["20"]["images"]


def test_pictures_of_two_sizes_are_not_compared_and_the_prompt_goes_on(server: Server):
    graph = picture(drawing("demo"))
    graph["21"] = node("EmptyImage", width=64, height=64, batch_size=1, color=0)
    graph["20"] = node("ToMeCompare", image_a=["8", 0], image_b=["21", 0], gain=4.0)
    graph["22"] = node("PreviewImage", images=["20", 0])
    run = server.run(graph)
    problem = "images must be of one size, got 256x256 pixels and 64x64 pixels"
    assert ("20", f"Not compared: {problem}") in run.texts
    assert run.error == f"Execution Blocked: ToMe Compare: {problem}"
    assert run.outputs["9"]["images"] and "22" not in run.outputs
