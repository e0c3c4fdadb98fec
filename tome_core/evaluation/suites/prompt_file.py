"""Prompts of a text file, one a line, as T2I-CompBench (Huang et al. 2023) has them: `color_val.txt` and its like."""

from pathlib import Path

from .suite import Prompt, Split, Suite


def read_prompts(path: Path) -> Suite:
    """Return a file's different prompts in their order, as the held-out part of a suite that nothing judges.

    Blank lines are left out. What should come of a prompt is not in such a file, so nothing is wanted of a picture.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no text in UTF-8, or holds no prompt.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"prompts file must be text in UTF-8, got {path.name}") from error
    texts = dict.fromkeys(line.strip() for line in lines if line.strip())
    if not texts:
        raise ValueError(f"prompts file must hold a prompt a line, got none in {path.name}")
    prompts = tuple(Prompt(text, ()) for text in texts)
    parts: dict[Split, tuple[Prompt, ...]] = {"seen": (), "held-out": prompts}
    attribute = "attributes of prompts from a file"
    return Suite(path.name, "prompts of a file", attribute, phrase="", apart=False, untaught="", parts=parts)
