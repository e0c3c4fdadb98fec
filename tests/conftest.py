"""What every test relies on: the same examples in each run, and no network."""

import os
import socket

import hypothesis
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # before any test imports a library that reads it

hypothesis.settings.register_profile("suite", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.load_profile("suite")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every connection an error, so that a test which would fetch something fails here as on a plane."""

    def refuse(self: socket.socket, address: object) -> None:
        raise RuntimeError(f"a test tried to connect to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
