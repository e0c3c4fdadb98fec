"""The extension, loaded as a webui loads it, with a small stand-in for the host."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.a1111_extension.fake import gradio
from tests.a1111_extension.fake.webui import Webui

SHIM = Path(__file__).resolve().parents[2] / "scripts" / "tome_suite.py"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Return a function that loads the script into a host; the modules of both are gone after the test."""

    def load_shim(webui: Webui) -> Any:
        for name, module in webui.modules().items():
            monkeypatch.setitem(sys.modules, name, module)
        spec = importlib.util.spec_from_file_location("tome_suite.py", SHIM)
        assert spec is not None and spec.loader is not None
        shim = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(shim)
        script = shim.ToMe()
        script.is_img2img = False
        return script

    _forget()
    yield load_shim
    _forget()


def _forget() -> None:
    gradio.Component.made.clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "a1111_extension"]:
        del sys.modules[name]


@pytest.fixture
def webui() -> Webui:
    """Return a plain host."""
    return Webui()


@pytest.fixture
def script(webui: Webui, load: Callable[..., Any]) -> Any:
    """Return the script in it."""
    return load(webui)


@pytest.fixture
def part(script: Any) -> Callable[[str], Any]:
    """Return a function that gives a module of the extension by its name."""
    return lambda name: importlib.import_module(f"a1111_extension.{name}")
