"""One running webui for all tests of this folder."""

from __future__ import annotations

import pytest

from tests.hosts.webui.live.server import Server, missing


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Let tests of this folder reach the server, which is on this machine."""


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    if missing():
        pytest.skip(missing())
    with Server(tmp_path_factory.mktemp("webui")) as running:
        yield running
