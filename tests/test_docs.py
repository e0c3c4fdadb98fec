"""What a newcomer clicks on and copies from the README and the docs must be there, and run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.random_checkpoints import narrow_configs, write_folder
from tome_core.cli.entry import parse

ROOT = Path(__file__).resolve().parent.parent
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*GUIDES, ROOT / "benchmarks" / "README.md", ROOT / "tome_core" / "demo" / "weights" / "MODEL_CARD.md"]
HERE = {  # what a checkpoint of the reader's, a GPU and patience become in a test
    '.to("cuda")': "",
    "torch.float16": "torch.float32",
    "num_inference_steps=20": "num_inference_steps=2",
    '"a lighthouse at dusk", ': '"a lighthouse at dusk", num_inference_steps=4, ',
}


def blocks(page: Path, language: str) -> Iterator[str]:
    """Yield each fenced block of a language."""
    yield from re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words after `tome` of each command line, continued lines joined."""
    for block in blocks(page, "sh"):
        for line in re.sub(r"\\\n", "", block).splitlines():
            if line.startswith("tome "):
                yield shlex.split(line)[1:]


EXAMPLES = [(page.name, code) for page in GUIDES for code in blocks(page, "python")]
COMMANDS = [words for page in PAGES for words in commands(page)]


def test_every_relative_link_leads_somewhere():
    links = [(page, link) for page in PAGES for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))]
    relative = [(page, link) for page, link in links if not link.startswith("http")]
    assert len(relative) > 20
    assert [(page.name, link) for page, link in relative if not (page.parent / link).exists()] == []


def test_the_readme_is_short():
    assert (ROOT / "README.md").stat().st_size <= 9 * 1024


@pytest.mark.parametrize(("page", "code"), EXAMPLES, ids=[page for page, _ in EXAMPLES])
def test_the_python_examples_run(
    page: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    if "my-sdxl" in code:
        write_folder(tmp_path / "my-sdxl", "sdxl", narrow_configs("sdxl"))
    for written, here in HERE.items():
        code = code.replace(written, here)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page, "exec"), {})
    assert capsys.readouterr().out.strip(), "an example prints what it found"
    if "image.save" in code:
        assert list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_is_one_that_the_command_line_takes(words: list[str]):
    assert parse(words).execute.__module__.endswith(words[1] if words[0] == "bench" else words[0])
