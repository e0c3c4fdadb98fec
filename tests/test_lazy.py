"""Packages whose public names are imported when they are first asked for."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("tome_core.speed", "tome_core.binding")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_and_comes_from_within_the_package(package: str):
    module = importlib.import_module(package)
    for name in module.__all__:
        assert getattr(module, name) is vars(module)[name], "it is imported once"
        assert not hasattr(getattr(module, name), "__path__"), f"{name} is hidden by a package of its name"
        assert type(getattr(module, name)).__name__ != "module", f"{name} is hidden by a module of its name"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_name_that_is_not_there_is_refused_as_by_any_module(package: str):
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        importlib.import_module(package).nothing  # noqa: B018


@pytest.mark.parametrize("package", PACKAGES)
def test_reading_a_config_imports_no_door(package: str):
    code = f"import sys, {package}.config; print([x for x in sys.modules if 'diffusers' in x or '.doors' in x])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
