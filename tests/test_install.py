"""install.py: stdlib only, silent where nothing is missing, one line where something is."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

INSTALL = Path(__file__).resolve().parent.parent / "install.py"


def run(*options: str, setup: str = "") -> subprocess.CompletedProcess[str]:
    code = f"{setup}\nimport runpy; runpy.run_path({str(INSTALL)!r}, run_name='__main__')"
    return subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True)


def test_is_silent_where_nothing_is_missing():
    done = run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_names_in_one_line_what_is_missing():
    done = run("-I", "-S")  # without site-packages
    assert done.returncode == 1
    assert done.stdout == (
        "tome-suite cannot run: missing from this host's Python: torch, numpy, safetensors, tqdm, Pillow\n"
    )
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("setup", "problem"),
    [
        ("import sys; sys.version_info = (3, 9, 18)", "it needs Python 3.10 or newer, this is 3.9"),
        (
            "from importlib import metadata; metadata.version = lambda name: '2.0.1+cu118'",
            "it needs torch 2.1 or newer, this host has 2.0.1+cu118",
        ),
    ],
)
def test_names_what_is_too_old(setup: str, problem: str):
    done = run(setup=setup)
    assert (done.returncode, done.stdout) == (1, f"tome-suite cannot run: {problem}\n")


def test_never_imports_torch():
    done = run(setup="import atexit, sys; atexit.register(lambda: print('torch' in sys.modules))")
    assert done.stdout == "False\n"


def test_imports_the_standard_library_alone():
    imported = set()
    for node in ast.walk(ast.parse(INSTALL.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported
    assert imported <= sys.stdlib_module_names
