"""The accordion in a headless browser: what is shown, what pasting restores, and what a reload of the page leaves.

With PLAYWRIGHT_CORE=.../node_modules/playwright-core; SCREENSHOTS=folder keeps pictures to look at.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.hosts.webui.live.server import missing

SCRIPT = Path(__file__).with_name("front_end.mjs")
INFOTEXT = (
    "ToMe preset: custom, ToMe hires preset: fast, ToMe binding: custom, ToMe binding strength: 0.5, "
    'ToMe groups: "circle: red", ToMe maps: on, ToMe ratio: 0.4, ToMe levels: 1+2, ToMe parts: attention+mlp, '
    "ToMe stride: 2+3, ToMe mlp ratio: 0.25, ToMe proportional: on, ToMe refresh: 3, ToMe binding norm: noun"
)
PASTED = {
    "speed_preset": "custom",
    "hires_preset": "fast",
    "binding": True,
    "binding_preset": "custom",
    "binding_strength": "0.5",
    "groups": "circle: red",
    "maps": True,
    "speed_ratio": "0.4",
    "speed_levels": "1,2",
    "speed_parts": "attention + mlp",
    "speed_stride": "2x3",
    "speed_mlp_ratio": "0.25",
    "speed_proportional": True,
    "speed_refresh": "3",
    "binding_norm": "noun",
}
pytestmark = pytest.mark.skipif(
    missing() is not None or not os.environ.get("PLAYWRIGHT_CORE"), reason="needs WEBUI_PATH and PLAYWRIGHT_CORE"
)


@pytest.fixture(scope="module")
def seen(server):
    command = ["node", str(SCRIPT), server.url, *filter(None, [os.environ.get("SCREENSHOTS")])]
    environment = {**os.environ, "INFOTEXT": INFOTEXT}
    done = subprocess.run(command, capture_output=True, text=True, timeout=560, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.get("failed") is None, found["failed"]
    return found


def test_the_accordion_is_off_until_it_is_ticked(seen):
    assert seen["untouched"]["enabled-visible-checkbox"] is False
    assert seen["untouched"]["binding"] is False


def test_the_groups_of_the_prompt_stand_below_it(seen):
    assert seen["groups"].split() == "ToMe binds book red vase yellow table wooden".split()


def test_what_was_done_stands_below_the_picture_and_in_the_tab(seen):
    for text in (seen["first"], seen["tab"]):
        assert "model calls" in text and "Bound circle: red" in text


def test_pasting_restores_every_widget(seen):
    assert {name: seen["pasted"][name] for name in PASTED} == PASTED
    widgets = [name for name in seen["untouched"] if name.startswith(("speed", "binding")) and "knobs" not in name]
    others = [name for name in widgets if name not in PASTED]
    assert others
    assert {name: seen["pasted"][name] for name in others} == {name: seen["untouched"][name] for name in others}


def test_after_reload_ui_everything_is_there_once(seen):
    assert "model calls" in seen["reloaded"]
    assert seen["tabs"] == 1


def test_the_page_has_no_error_of_ours(seen):
    assert not [error for error in seen["errors"] if "tome" in error.lower()]
