"""What a newcomer clicks on and copies must be there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "tome_core" / "demo" / "weights" / "MODEL_CARD.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path):
    links = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    relative = [link for link in links if not link.startswith("http")]
    assert relative
    assert [link for link in relative if not (page.parent / link).exists()] == []


def test_the_python_examples_are_python():
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        compile(example, "README.md", "exec")
