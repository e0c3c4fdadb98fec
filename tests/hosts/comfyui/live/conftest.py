"""A real ComfyUI for the tests of this folder, which COMFYUI_PATH names; they run with that ComfyUI's own Python.

    COMFYUI_PATH=~/ComfyUI ~/ComfyUI/venv/bin/python -m pytest tests/hosts/comfyui/live

Without it they are skipped. One server with the suite runs for all of them; it needs no checkpoint and no network.
Those of the front end need a browser, and can look at further front ends: see test_front_end.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.hosts.comfyui.live.server import MODEL_PACK, SUITE, Run, Server


@pytest.fixture(autouse=True)
def no_network() -> None:
    """Allow connections again: these tests speak to a server on this machine."""


@pytest.fixture(scope="session")
def host() -> str:
    """Return the path of the ComfyUI checkout, or skip."""
    path = os.environ.get("COMFYUI_PATH")
    if not path:
        pytest.skip("COMFYUI_PATH is not set: it names a ComfyUI checkout to test in")
    pytest.importorskip("aiohttp", reason="these tests run with ComfyUI's own Python")
    return path


@pytest.fixture(scope="session")
def server(host: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a running server with the suite as its folder is named after a clone."""
    packs = {"tome-suite": SUITE, "models-for-tests": MODEL_PACK}
    with Server(tmp_path_factory.mktemp("with-suite"), packs) as running:
        yield running


@pytest.fixture(scope="session")
def plain_latents(host: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the latents that a fresh server without the suite draws, by kind of model."""
    from tests.hosts.comfyui.live.graphs import drawing

    with Server(tmp_path_factory.mktemp("without-suite"), {"models-for-tests": MODEL_PACK}) as running:
        assert "ToMeSpeed" not in running.get_json("/object_info")
        return {kind: latent_of(running, running.run(drawing(kind))) for kind in ("demo", "sdxl", "flux")}


@pytest.fixture
def draw(server: Server) -> Callable[[dict[str, Any]], Any]:
    """Return a function that runs a prompt and gives its latent."""
    return lambda graph: latent_of(server, server.run(graph))


def latent_of(server: Server, run: Run) -> Any:
    """Return the latent that a prompt saved."""
    from safetensors.torch import load_file

    from tests.hosts.comfyui.live.graphs import LATENT

    assert not run.error, run.error
    saved = run.outputs[LATENT]["latents"][0]
    return load_file(server.base / "output" / saved["subfolder"] / saved["filename"])["latent_tensor"]
