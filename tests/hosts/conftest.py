"""The hosts of the patcher protocol: a fake one that is always there, and the ComfyUI that COMFYUI_PATH names."""

from types import ModuleType

import pytest

from tests.hosts.comfyui import host as comfyui
from tests.hosts.fake import host as fake


@pytest.fixture(params=["fake", "comfyui"])
def host(request: pytest.FixtureRequest) -> ModuleType:
    """Return a module with `new_model`, `text` and `sample`."""
    if request.param == "fake":
        return fake
    reason = comfyui.missing()
    if reason is not None:
        pytest.skip(reason)
    return comfyui
