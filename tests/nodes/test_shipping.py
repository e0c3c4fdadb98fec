"""What ComfyUI's registry ships: everything that the nodes need, and none of what only makers need."""

from __future__ import annotations

import subprocess

import pytest

from tests.nodes.loading import ROOT

NEEDED = ("__init__.py", "nodes/", "tome_core/", "web/", "locales/", "example_workflows/", "install.py", "LICENSE")


def listed(*options: str) -> set[str]:
    command = ["git", "-C", str(ROOT), "ls-files", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("this is no checkout of git")
    return set(done.stdout.split("\n")) - {""}


def test_the_registry_ships_all_that_the_nodes_need():
    left_out = listed("-c", "-i", f"--exclude-from={ROOT / '.comfyignore'}")
    everything = listed()
    for name in NEEDED:
        assert any(path.startswith(name) for path in everything), f"{name} is not in the repository"
        assert not [path for path in left_out if path.startswith(name)]


def test_the_registry_ships_no_tests_and_no_pictures_for_readers():
    left_out = listed("-c", "-i", f"--exclude-from={ROOT / '.comfyignore'}")
    for name in (".ci/", "tests/", "benchmarks/", "docs/"):
        assert {path for path in listed() if path.startswith(name)} <= left_out
