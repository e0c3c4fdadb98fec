"""What every test relies on: the same examples in each run, no network, and a look at what a patch leaves behind."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from torch import nn

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


@pytest.fixture(autouse=True)
def presets_folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the user's presets that does not exist yet, in the place of the developer's own."""
    folder = tmp_path_factory.mktemp("user") / "presets"
    monkeypatch.setenv("TOME_PRESETS", str(folder))
    return folder


@pytest.fixture
def traces() -> Callable[[nn.Module], list[Any]]:
    """Return a function that lists all that a patch could leave on the modules of a model."""

    def collect(model: nn.Module) -> list[Any]:
        return [(name, type(module), _attributes(module)) for name, module in model.named_modules()]

    return collect


def _attributes(module: nn.Module) -> list[tuple[str, Any]]:
    """Return each attribute by name: the keys of dictionaries (torch keeps hooks there), the identity of the rest."""
    return [(key, list(value) if isinstance(value, dict) else id(value)) for key, value in vars(module).items()]
