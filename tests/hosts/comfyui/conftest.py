"""Tests that need ComfyUI itself: they skip, with a reason, where COMFYUI_PATH names none.

They run with ComfyUI's own Python, and need pytest and hypothesis in it. Those that compare ComfyUI with the diffusers
door need diffusers as well, and skip where it is not installed.
"""

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


@pytest.fixture
def diffusers_door() -> None:
    """Skip where there is no diffusers to compare with."""
    pytest.importorskip("diffusers", reason="diffusers is not installed in this Python: it draws what is compared")
