"""The real front end in a headless Chromium: nodes are added, templates opened, the demo is run, nothing complains.

PLAYWRIGHT_CORE names the folder of npm's playwright-core, and CHROMIUM the browser where it is not Debian's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.comfyui.live.server import HERE, Server

# What the front end of ComfyUI 0.3.64 itself reports on an empty user folder.
HOSTS_OWN = (
    "/api/userdata",
    "/user.css",
    "/favicon.ico",
    "Cannot read properties of undefined (reading 'id')",
    "ComfyApp graph accessed before initialization",
)


@pytest.fixture(scope="module")
def seen(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the browser saw."""
    if not os.environ.get("PLAYWRIGHT_CORE") or not shutil.which("node"):
        pytest.skip("PLAYWRIGHT_CORE does not name the folder of npm's playwright-core, or there is no node")
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    command = ["node", str(HERE / "front_end.mjs"), server.url, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_node_can_be_added_under_its_name(seen: dict[str, Any]):
    assert {node_id: found["title"] for node_id, found in seen["added"].items()} == {
        "ToMeSpeed": "ToMe Speed",
        "ToMeSpeedAdvanced": "ToMe Speed (Advanced)",
        "ToMeBindPrompt": "ToMe Bind Prompt",
        "ToMeAttentionMaps": "ToMe Attention Maps",
        "ToMeShowMaps": "ToMe Show Maps",
        "ToMeCompare": "ToMe Compare",
        "ToMeDemoModel": "ToMe Demo Model",
    }
    assert seen["added"]["ToMeSpeed"]["widgets"] == ["preset", "strength"]


def test_our_seed_is_not_drawn_anew_after_each_run(seen: dict[str, Any]):
    widgets = seen["added"]["ToMeSpeedAdvanced"]["widgets"]
    assert "seed" in widgets and "control_after_generate" not in widgets


def test_every_template_opens_from_the_template_browser(seen: dict[str, Any]):
    assert len(seen["templates"]) == 6
    for name, types in seen["templates"].items():
        ours = "ToMeBindPrompt" if name.startswith("binding") else "ToMeSpeed"
        assert ours in types and "KSampler" in types, name


def test_the_demo_runs_and_its_nodes_tell_of_it(seen: dict[str, Any]):
    ran = seen["ran"]["demo-ab"]
    assert ran["over"][0] == "execution_success"
    assert any("Merged in " in text for text in ran["told"])
    assert any(text.startswith("PSNR ") for text in ran["told"])


def test_the_binding_demo_tells_its_parse_and_shows_maps_while_it_draws(seen: dict[str, Any]):
    ran = seen["ran"]["binding-demo"]
    assert ran["over"][0] == "execution_success"
    assert ran["previews"] == 2, "on each of the two map nodes"
    assert {"circle: red\nsquare: blue", "1: circle; 2: square"} <= set(ran["told"])


def test_nothing_of_ours_complains_in_the_console(seen: dict[str, Any]):
    assert [line for line in seen["errors"] if not any(known in line for known in HOSTS_OWN)] == []
