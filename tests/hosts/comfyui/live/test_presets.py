"""A preset of the user's in a running ComfyUI: saved by a prompt, taken by the next, changed and deleted meanwhile."""

from __future__ import annotations

import json
import urllib.error
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.hosts.comfyui.live.graphs import SPEED, advanced, drawing, node, speed
from tests.hosts.comfyui.live.server import Server

Draw = Callable[[dict[str, Any]], Any]
SAVE = "90"


def options(server: Server, node_id: str) -> list[str]:
    """Return the presets that a node offers, in the form of either version of the host."""
    kind, more = server.get_json(f"/object_info/{node_id}")[node_id]["input"]["required"]["preset"]
    return kind if isinstance(kind, list) else more["options"]


def refused(server: Server, graph: dict[str, Any]) -> str:
    with pytest.raises(urllib.error.HTTPError) as answer:
        server.post("/prompt", {"prompt": graph})
    return answer.value.read().decode()


def test_a_saved_preset_is_taken_by_the_next_prompt_and_followed_when_its_file_changes(server: Server, draw: Draw):
    drawn = drawing("demo", advanced(ratio=0.7, parts="block"))
    saving = {**drawn, SAVE: node("ToMeSavePreset", model=[SPEED, 0], name="Live Look", help="A trial.")}
    assert "Value not in list" not in refused(server, drawing("demo", speed("live look")))
    run = server.run(saving)
    path = server.presets / "live look.json"
    assert not run.error and run.outputs[SAVE]["text"][0].startswith(f"Saved as live look in {path}\n")
    assert options(server, "ToMeSpeed")[-1] == "live look" and "live look" not in options(server, "ToMeBindPrompt")

    own = drawing("demo", speed("live look"))
    first = draw(own)
    assert torch.equal(first, draw(drawn))
    stored = json.loads(path.read_text())
    stored["speed"]["settings"]["ratio"] = 0.1
    path.write_text(json.dumps(stored))
    second = draw(own)
    assert torch.equal(second, draw(drawing("demo", advanced(ratio=0.1, parts="block"))))
    assert not torch.equal(first, second)

    path.write_text("{")
    assert "preset file live look.json: must be JSON: " in refused(server, own)
    path.unlink()
    assert "preset must be one of ('off', 'gentle', 'balanced', 'fast'), got 'live look'" in refused(server, own)
    assert server.run(saving).outputs[SAVE]["text"][0].startswith("Saved as live look") and path.exists()


def test_binding_is_saved_from_a_conditioning_and_bound_the_same_by_its_word(server: Server):
    bind = {"clip": ["1", 1], "text": "a red circle and a blue square", "strength": 1.0}
    graph = drawing("demo")
    graph["2"] = node("ToMeBindPrompt", preset="gentle", **{**bind, "strength": 0.5})
    graph[SAVE] = node("ToMeSavePreset", conditioning=["2", 0], name="bound")
    run = server.run(graph)
    assert not run.error and "ToMe Bind Prompt offers it" in run.outputs[SAVE]["text"][0]
    again = drawing("demo")
    again["2"] = node("ToMeBindPrompt", preset="bound", **bind)
    assert not server.run(again).error
    stored = json.loads((server.presets / "bound.json").read_text())
    assert stored == {"binding": {"settings": {"strength": 0.5, "norm": "noun", "ends": "off"}}}


def test_a_save_that_nothing_is_connected_to_is_refused_before_work(server: Server):
    graph = {SAVE: node("ToMeSavePreset", name="nothing")}
    assert "connect model to a ToMe Speed" in refused(server, graph)
    assert not (server.presets / "nothing.json").exists()
