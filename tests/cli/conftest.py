"""The command line run inside the test, in an empty folder, with the demo model opened once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from tome_core.cli import console, main, models
from tome_core.demo import load_demo


class Outcome(NamedTuple):
    """What a command left: its exit code and what it wrote on both streams."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def demo_model() -> Any:
    return load_demo()


@pytest.fixture
def tome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], demo_model: Any
) -> Callable[..., Outcome]:
    """Return a function that runs `tome` with the given words in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "_LINE_EVERY", float("inf"))  # however slow the machine, progress adds nothing to read
    monkeypatch.setattr(models, "load_demo", lambda **options: demo_model)
    monkeypatch.setattr(models, "_AT_ONCE", 1)  # copies of the model take longer than these pictures
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # the model was opened on the CPU
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    def run(*words: object) -> Outcome:
        code = main([str(word) for word in words])
        return Outcome(code, *capsys.readouterr())

    return run
