"""A comparison in several processes that is killed outright, and started again."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

TIMES = ("time_ratio", "time_ratio_min", "time_ratio_max")
WORDS = ("bench", "quality", "--size", "64", "--steps", "1", "--prompts", "4", "--seeds", "4", "--processes", "2")
WORDS += ("--rounds", "1")


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tome_core.cli", *WORDS, "--skip-gate", *words]
    one_thread = os.environ | {
        "OMP_NUM_THREADS": "1"
    }  # several processes with threads of their own wait for each other
    return subprocess.Popen(command, cwd=folder, env=one_thread, start_new_session=True, stdout=subprocess.DEVNULL)


def figures(path: Path) -> list[dict[str, Any]]:
    methods = json.loads(path.read_text())["methods"]
    return [{name: value for name, value in found.items() if name not in TIMES} for found in methods]


def drawn(folder: Path) -> int:
    return len(list(folder.rglob("_draw/*/output.pkl")))


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="this system cannot kill a group of processes")
def test_a_run_that_is_killed_goes_on_to_the_table_of_one_that_was_not(tome, tmp_path, request):
    process = start(tmp_path, "--cache", "cut", "--json", "cut.json")
    until = time.monotonic() + 300
    while not drawn(tmp_path / "cut") and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = drawn(tmp_path / "cut")
    assert 0 < kept < 4 * 2
    assert not (tmp_path / "cut.json").exists()
    assert start(tmp_path, "--cache", "cut", "--json", "cut.json").wait() == 0
    request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
    torch.set_num_threads(1)  # as the processes had
    assert tome(*WORDS, "--skip-gate", "--processes", 1, "--cache", "whole", "--json", "whole.json").code == 0
    assert drawn(tmp_path / "cut") == drawn(tmp_path / "whole") == 4 * 2
    assert figures(tmp_path / "cut.json") == figures(tmp_path / "whole.json")
