"""The nodes, in the tests of this folder, with a small stand-in for their host."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.nodes.loading import PACK, loaded_pack


@pytest.fixture
def pack() -> Iterator[Any]:
    """Return the pack as ComfyUI has it after loading."""
    with loaded_pack() as module:
        yield module


@pytest.fixture
def nodes(pack: Any) -> Any:
    """Return its package of nodes."""
    return sys.modules[f"{PACK}.nodes"]
