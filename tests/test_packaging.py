"""The metadata that hosts and package tools read."""

import re
from pathlib import Path

import tome_core

ROOT = Path(__file__).resolve().parent.parent


def names(path: Path) -> set[str]:
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return {re.split(r"[=<>\[;]", line)[0].lower() for line in lines if line}


def test_the_version_is_written_the_same_in_both_places():
    assert f'\nversion = "{tome_core.__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_a_host_is_never_asked_for_torch():
    assert names(ROOT / "requirements.txt") == {"numpy", "safetensors", "tqdm", "pillow"}


def test_the_registry_finds_what_it_asks_for():
    text = (ROOT / "pyproject.toml").read_text()
    assert re.search(r'^name = "(?!.*comfyui).{1,99}"$', text, re.MULTILINE | re.IGNORECASE)
    assert re.search(r'^version = "\d+\.\d+\.\d+"', text, re.MULTILINE)
    assert re.search(r'^requires-comfyui = ">=0\.3\.64"', text, re.MULTILINE)
    assert "\nweb = " not in text, "WEB_DIRECTORY names the web folder; named twice it is served twice"
