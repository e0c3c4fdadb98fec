"""Tests that need ComfyUI itself: they skip, with a reason, where COMFYUI_PATH names none."""

from types import ModuleType

import pytest

from tests.hosts.comfyui import host as real


@pytest.fixture
def comfyui() -> ModuleType:
    """Return the real host, imported."""
    reason = real.missing()
    if reason is not None:
        pytest.skip(reason)
    real.open_host()
    return real
