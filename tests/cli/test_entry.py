"""Words to commands, and what comes of them to exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tome_core
from tome_core.cli import generate
from tome_core.cli.entry import COMMANDS

ROOT = Path(__file__).resolve().parents[2]


def test_help_names_every_command_without_importing_torch():
    """Torch takes seconds to import, and a question for help shall be answered at once."""
    code = "import sys; from tome_core.cli import main; code = main(['--help']); print(code, 'torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told.endswith("0 False\n")
    for command in COMMANDS:
        assert f"tome {command.name} " in told


def test_no_words_at_all_show_the_help(tome):
    assert tome().out == tome("--help").out != ""
    assert tome().code == 0


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_each_command_has_help_with_examples(tome, command):
    told = tome(*command.split(), "--help")
    assert told.code == 0
    assert f"usage: tome {command}" in told.out
    assert f"examples:\n  tome {command}" in told.out


def test_the_version_is_told(tome):
    assert tome("--version") == (0, f"tome {tome_core.__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "named"), [(["draw"], "draw"), (["bench"], "bench"), (["bench", "art"], "bench art")]
)
def test_an_unknown_command_is_told_with_the_known_ones(tome, words, named):
    told = tome(*words)
    assert told.code == 2
    commands = "demo, generate, bind, bench speed, bench quality, bench binding"
    assert told.err == f"tome: error: there is no command {named!r}; commands are {commands}\n"


def test_an_interrupt_is_one_line_and_leaves_no_file(tome, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(generate, "draw", interrupt)
    assert tome("generate", "a red square", "--size", 64, "--steps", 1) == (130, "", "tome: error: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_too_little_gpu_memory_is_one_line(tome, monkeypatch):
    def fill(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(generate, "draw", fill)
    told = tome("generate", "a red square", "--size", 64, "--steps", 1)
    assert told.code == 2
    assert told.err.startswith("tome: error: the GPU has too little memory")
    assert told.err.count("\n") == 1


def test_a_defect_keeps_its_traceback(tome, monkeypatch):
    def fail(*_):
        raise ValueError("an invariant is broken")

    monkeypatch.setattr(generate, "draw", fail)
    with pytest.raises(ValueError, match="an invariant is broken"):
        tome("generate", "a red square", "--size", 64, "--steps", 1)
