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
    code = (
        "import sys; from tome_core.cli import main; "
        "print(main(['--help']), main(['bench', '--help']), 'torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out.endswith("0 0 False\n")
    overview, bench = out.split("usage: tome bench ")
    for name in COMMANDS:
        group, _, word = name.rpartition(" ")
        assert f"\n    {word} " in (bench if group else overview)


def test_no_words_at_all_show_the_help(tome):
    assert tome().out == tome("--help").out != ""
    assert tome().code == 0


def test_a_group_without_a_command_shows_its_help(tome):
    assert tome("bench").out == tome("bench", "--help").out != ""
    assert tome("bench").code == 0


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "bench"])
def test_each_command_has_help_with_examples(tome, command):
    told = tome(*command.split(), "--help")
    assert told.code == 0
    assert f"usage: tome {command}" in told.out
    assert f"examples:\n  tome {command}" in told.out


def test_the_version_is_told(tome):
    assert tome("--version") == (0, f"tome {tome_core.__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "commands", "named", "prog"),
    [
        (["draw"], "demo, generate, bind, preset, bench", "draw", "tome"),
        (["bench", "art"], "speed, quality, binding", "art", "tome bench"),
    ],
)
def test_an_unknown_command_is_named_with_the_known_ones(tome, words, commands, named, prog):
    message = f"COMMAND must be one of {commands}, got {named!r} (see {prog} --help)"
    assert tome(*words) == (2, "", f"tome: error: {message}\n")


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
