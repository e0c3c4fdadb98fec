"""What holds for every node, and for the pack as ComfyUI loads it."""

from __future__ import annotations

import asyncio
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import tome_core

ROOT = Path(__file__).resolve().parents[2]


def schemas(nodes: Any) -> list[Any]:
    return [node.define_schema() for node in nodes.NODES]


def test_comfyui_finds_every_node_by_its_entry_point(pack: Any, nodes: Any):
    extension = asyncio.run(pack.comfy_entrypoint())
    found = [node.define_schema().node_id for node in asyncio.run(extension.get_node_list())]
    speed, binding = ["ToMeSpeed", "ToMeSpeedAdvanced"], ["ToMeBindPrompt", "ToMeAttentionMaps", "ToMeShowMaps"]
    assert found == [*speed, *binding, "ToMeCompare", "ToMeDemoModel", "ToMeSavePreset"]
    assert pack.WEB_DIRECTORY == "./web" and not hasattr(pack, "NODE_CLASS_MAPPINGS")


def test_the_nodes_and_the_tests_have_one_core(nodes: Any):
    speed = importlib.import_module(f"{nodes.__name__}.speed")
    assert speed.SpeedConfig is tome_core.speed.SpeedConfig
    assert tome_core.__name__ == "tome_core" and tome_core.speed.__spec__.name == "tome_core.speed"


def test_no_node_needs_diffusers():
    code = "import sys; sys.modules['diffusers'] = None; import tests.nodes.loading as x; x.loaded_pack().__enter__()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_loading_the_pack_imports_nothing_that_only_runs_or_measures():
    code = (
        "import sys, tests.nodes.loading as x; x.loaded_pack().__enter__();"
        "found = {'.'.join(name.split('.')[:3]) for name in sys.modules if name.startswith('tome_core.')};"
        "print(*sorted(found))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = done.stdout.split()
    assert "tome_core.speed.config" in imported
    rooms = {"bench", "checkpoints", "cli", "tuning"}
    assert [name for name in imported if name.split(".")[1] in rooms] == []
    assert [name for name in imported if name.endswith((".doors", ".engine", ".layouts", ".plans"))] == []


def test_every_node_input_and_output_is_explained(nodes: Any):
    for schema in schemas(nodes):
        assert schema.node_id.startswith("ToMe") and schema.display_name.startswith("ToMe ")
        assert schema.category == "ToMe" and schema.description
        for made in [*schema.inputs, *schema.outputs]:
            assert made.tooltip, (schema.node_id, made)


def test_ids_are_unique_over_inputs_and_outputs(nodes: Any):
    for schema in schemas(nodes):
        ids = [made.id for made in [*schema.inputs, *schema.outputs] if made.id]
        assert len(ids) == len(set(ids))


def test_every_node_has_a_help_page_that_names_its_inputs(nodes: Any):
    for schema in schemas(nodes):
        page = (ROOT / "web" / "docs" / f"{schema.node_id}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {schema.display_name}\n")
        missing = [made.id for made in schema.inputs if f"**{made.id}**" not in page]
        assert missing == []


def test_the_english_locale_says_what_the_nodes_say(nodes: Any):
    from tests.nodes.locale import FILE, english

    assert json.loads(FILE.read_text(encoding="utf-8")) == english(nodes), "python -m tests.nodes.locale writes it anew"


@pytest.mark.parametrize(
    "name", ["demo-ab", "sd15-txt2img", "sdxl-txt2img", "hires-pass", "binding-demo", "binding-sdxl"]
)
def test_every_template_is_in_ui_format_with_a_thumbnail_and_fits_the_nodes(nodes: Any, name: str):
    folder = ROOT / "example_workflows"
    assert (folder / f"{name}.jpg").read_bytes().startswith(b"\xff\xd8")
    workflow = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    assert {"nodes", "links", "version"} <= set(workflow)
    known = {schema.node_id: schema for schema in schemas(nodes)}
    ours = [node for node in workflow["nodes"] if node["type"] in known]
    assert ours
    for node in ours:
        widgets = [made for made in known[node["type"]].inputs if hasattr(made, "default")]
        assert len(node.get("widgets_values", [])) == len(widgets), node["type"]
        assert len(node["outputs"]) == len(known[node["type"]].outputs)


def test_the_comparison_shows_its_figures_and_its_picture(nodes: Any):
    compare = importlib.import_module(f"{nodes.__name__}.compare").ToMeCompare
    image = torch.rand(1, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    answer = compare.execute(image, (image + 0.1).clamp(0, 1), 4.0)
    difference, psnr, ssim, text = answer.args
    assert difference.shape == image.shape and 20 < psnr < 30 and 0.5 < ssim < 1 and text.startswith("PSNR ")
    assert answer.ui["images"] == [difference] and answer.ui["text"] == (text,)


def test_images_that_cannot_be_compared_stop_only_what_hangs_on_the_comparison(nodes: Any):
    compare = importlib.import_module(f"{nodes.__name__}.compare").ToMeCompare
    answer = compare.execute(torch.zeros(1, 16, 16, 3), torch.zeros(1, 8, 16, 3), 4.0)
    assert answer.block_execution == "ToMe Compare: images must be of one size, got 16x16 pixels and 16x8 pixels"
    assert len(answer.args) == len(compare.define_schema().outputs), "the host blocks outputs that are there alone"
    assert answer.ui["text"] == ("Not compared: images must be of one size, got 16x16 pixels and 16x8 pixels",)
    shown = compare.execute(torch.zeros(1, 8, 8, 3), torch.zeros(1, 8, 8, 3), 4.0).ui
    assert answer.ui.keys() == shown.keys(), "the host joins what a node shows of several images key by key"


def test_the_demos_autoencoder_is_described_by_its_own_numbers(nodes: Any):
    described = importlib.import_module(f"{nodes.__name__}.demo_model").vae_params()
    assert described["ddconfig"]["ch_mult"] == [1, 1, 1, 1] and described["ddconfig"]["ch"] == 64
    assert described["ddconfig"]["num_res_blocks"] == 0 and described["embed_dim"] == 4
