"""What ComfyUI serves of the suite's folders: node descriptions, help pages, translations, templates."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse

import pytest

from tests.hosts.comfyui.live.graphs import advanced, drawing
from tests.hosts.comfyui.live.server import SUITE, Server

BINDING = ("ToMeBindPrompt", "ToMeAttentionMaps", "ToMeShowMaps")
NODE_IDS = ("ToMeSpeed", "ToMeSpeedAdvanced", *BINDING, "ToMeCompare", "ToMeDemoModel", "ToMeSavePreset")
TEMPLATES = sorted(path.stem for path in (SUITE / "example_workflows").glob("*.json"))


@pytest.mark.parametrize("node_id", NODE_IDS)
def test_every_node_is_described_with_a_tooltip_on_each_input_and_output(server: Server, node_id: str):
    info = server.get_json(f"/object_info/{node_id}")[node_id]
    assert info["display_name"].startswith("ToMe ") and info["category"] == "ToMe" and info["description"]
    inputs = info["input"].get("required", {}) | info["input"].get("optional", {})
    assert all(made[1]["tooltip"] for made in inputs.values())
    assert all(info["output_tooltips"])


@pytest.mark.parametrize("node_id", NODE_IDS)
def test_every_node_has_a_help_page(server: Server, node_id: str):
    assert server.get(f"/extensions/tome-suite/docs/{node_id}.md").decode().startswith("# ")


@pytest.mark.parametrize("node_id", NODE_IDS)
def test_every_node_is_in_the_english_locale(server: Server, node_id: str):
    assert server.get_json("/i18n")["en"]["nodeDefs"][node_id]["display_name"].startswith("ToMe ")


def test_the_script_that_keeps_texts_on_nodes_is_loaded_by_the_front_end(server: Server):
    (script,) = [path for path in server.get_json("/extensions") if path.startswith("/extensions/tome-suite/")]
    assert script == "/extensions/tome-suite/node_text.js" and b"registerExtension" in server.get(script)


def test_the_template_browser_lists_our_templates(server: Server):
    assert TEMPLATES
    assert sorted(server.get_json("/workflow_templates")["tome-suite"]) == TEMPLATES


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_and_its_thumbnail_is_served(server: Server, name: str):
    folder = f"/api/workflow_templates/tome-suite/{urllib.parse.quote(name)}"
    assert {"nodes", "links", "version"} <= set(json.loads(server.get(f"{folder}.json")))
    assert server.get(f"{folder}.jpg").startswith(b"\xff\xd8")


def test_a_knob_that_breaks_its_rule_is_refused_before_the_prompt_runs(server: Server):
    graph = drawing("demo", advanced(start_percent=0.5, end_percent=0.5))
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.post("/prompt", {"prompt": graph})
    assert "end_percent must be above start_percent, got 0.5" in refused.value.read().decode()


def test_the_pack_is_loaded_without_a_complaint(server: Server):
    log = server.log.read_text()
    assert "custom_nodes/tome-suite" in log
    assert "IMPORT FAILED" not in log and "Cannot import" not in log
