"""Real front ends in a headless Chromium: nodes are added, templates opened, the demos run, nothing complains.

PLAYWRIGHT_CORE names the folder of npm's playwright-core, and CHROMIUM the browser where it is not Debian's.
COMFYUI_FRONT_ENDS names more front ends than the host's own, as `--front-end-root` takes them, with ":" between them:
the folder `comfyui_frontend_package/static` of `pip install --target FOLDER comfyui-frontend-package==VERSION`.
Each is tried with classic nodes and with "Nodes 2.0". SCREENSHOTS names a folder that keeps the pictures.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.comfyui.live.server import HERE, MODEL_PACK, SUITE, Server

# What the front ends themselves report on an empty user folder.
HOSTS_OWN = (
    "/api/userdata",
    "/user.css",
    "/favicon.ico",
    "Cannot read properties of undefined (reading 'id')",
    "ComfyApp graph accessed before initialization",
    "Content Security Policy",  # keeps the front end from looking up the models of its own first workflow
    "missingModelMetadata",
)


@pytest.fixture(scope="module", params=["", *filter(None, os.environ.get("COMFYUI_FRONT_ENDS", "").split(os.pathsep))])
def front_end(request: pytest.FixtureRequest, host: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a running server with one of the front ends."""
    if not os.environ.get("PLAYWRIGHT_CORE") or not shutil.which("node"):
        pytest.skip("PLAYWRIGHT_CORE does not name the folder of npm's playwright-core, or there is no node")
    options = ["--front-end-root", request.param] if request.param else []
    packs = {"tome-suite": SUITE, "models-for-tests": MODEL_PACK}
    with Server(tmp_path_factory.mktemp("front-end"), packs, *options) as running:
        yield running


@pytest.fixture(scope="module", params=["classic", "nodes-2"])
def seen(request: pytest.FixtureRequest, front_end: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the browser saw."""
    kept = os.environ.get("SCREENSHOTS")
    folder = Path(kept, f"{front_end.port}-{request.param}") if kept else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    command = ["node", str(HERE / "front_end.mjs"), front_end.url, str(folder), request.param]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    if "skipped" in answer:
        pytest.skip(answer["skipped"])
    return answer


def test_every_node_can_be_added_under_its_name(seen: dict[str, Any]):
    assert {node_id: found["title"] for node_id, found in seen["added"].items()} == {
        "ToMeSpeed": "ToMe Speed",
        "ToMeSpeedAdvanced": "ToMe Speed (Advanced)",
        "ToMeBindPrompt": "ToMe Bind Prompt",
        "ToMeAttentionMaps": "ToMe Attention Maps",
        "ToMeShowMaps": "ToMe Show Maps",
        "ToMeCompare": "ToMe Compare",
        "ToMeDemoModel": "ToMe Demo Model",
        "ToMeSavePreset": "ToMe Save My Preset",
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


def test_a_finished_demo_has_its_texts_on_its_nodes(seen: dict[str, Any]):
    ran = seen["ran"]["demo-ab"]
    assert ran["over"][0] == "execution_success"
    texts = ran["texts"]["finished"]
    assert texts.keys() == {"5 ToMeSpeed", "12 ToMeCompare"}
    (speed,), (compare,) = texts["5 ToMeSpeed"], texts["12 ToMeCompare"]
    assert speed.startswith("This run took ") and "Merged tokens in 14 of 20 model calls." in speed
    assert compare.startswith("PSNR ")


@pytest.mark.parametrize("when", ["tabAgain", "cached"])
def test_a_text_stays_as_it_is(seen: dict[str, Any], when: str):
    texts = seen["ran"]["demo-ab"]["texts"]
    assert texts[when] == texts["finished"]


def test_a_job_that_ends_while_another_workflow_is_open_has_its_texts_on_its_own_nodes(seen: dict[str, Any]):
    ran = seen["ran"]["demo-ab"]
    texts = ran["texts"]
    assert ran["away"]["over"][0] == "execution_success"
    assert texts["otherTab"] == texts["otherTabAfterRun"] == seen["ran"]["binding-demo"]["texts"]["finished"]
    assert texts["away"].keys() == texts["finished"].keys()
    assert all(texts["away"][name] != texts["finished"][name] for name in texts["finished"])
    assert texts["away"]["5 ToMeSpeed"][0].startswith("This run took ")


def test_a_text_is_still_there_after_a_reload(seen: dict[str, Any]):
    texts = seen["ran"]["demo-ab"]["texts"]
    assert texts["reloaded"] == texts["away"]


def test_a_text_is_shown_to_the_browser_that_asked_for_the_job_alone(seen: dict[str, Any]):
    assert seen["ran"]["demo-ab"]["texts"]["elsewhere"] == {}


def test_no_text_is_saved_with_the_workflow_or_sent_with_the_prompt(seen: dict[str, Any]):
    assert seen["ran"]["demo-ab"]["unchanged"]


def test_the_binding_demo_shows_its_groups_and_maps_while_it_draws_and_after_it(seen: dict[str, Any]):
    ran = seen["ran"]["binding-demo"]
    assert ran["over"][0] == "execution_success"
    assert ran["previews"] == 2, "on each of the two map nodes"
    texts = ran["texts"]["finished"]
    assert len(texts) == 6, "on both prompts, both nodes that collect maps and both that show them"
    assert texts["4 ToMeBindPrompt"] == ["circle: red\nsquare: blue"]
    assert texts["8 ToMeAttentionMaps"] == ["Maps of 2 phrases in this run: 1: circle; 2: square."]
    assert texts["14 ToMeShowMaps"] == ["1: circle; 2: square"]


def test_nothing_of_ours_complains_in_the_console(seen: dict[str, Any]):
    assert [line for line in seen["errors"] if not any(known in line for known in HOSTS_OWN)] == []
