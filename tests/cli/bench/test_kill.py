"""A comparison in several processes that is killed outright, and started again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

TIMES = ("time_ratio", "time_ratio_min", "time_ratio_max")
WORDS = ("bench", "quality", "--size", "64", "--steps", "2", "--prompts", "16", "--seeds", "4", "--processes", "2")


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tome_core.cli", *WORDS, "--skip-gate", *words]
    return subprocess.Popen(command, cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL)


def figures(path: Path) -> list[dict[str, Any]]:
    methods = json.loads(path.read_text())["methods"]
    return [{name: value for name, value in found.items() if name not in TIMES} for found in methods]


def drawn(folder: Path) -> int:
    return len(list(folder.rglob("*.npz")))


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="this system cannot kill a group of processes")
def test_a_run_that_is_killed_goes_on_to_the_table_of_one_that_was_not(tmp_path):
    process = start(tmp_path, "--cache", "cut", "--json", "cut.json")
    until = time.monotonic() + 300
    while not drawn(tmp_path / "cut") and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = drawn(tmp_path / "cut")
    assert 0 < kept < 4 * 64
    assert not (tmp_path / "cut.json").exists()
    again = start(tmp_path, "--cache", "cut", "--json", "cut.json")
    whole = start(tmp_path, "--cache", "whole", "--json", "whole.json")
    assert (again.wait(), whole.wait()) == (0, 0)
    assert drawn(tmp_path / "cut") == drawn(tmp_path / "whole") == 4 * 64
    assert figures(tmp_path / "cut.json") == figures(tmp_path / "whole.json")
