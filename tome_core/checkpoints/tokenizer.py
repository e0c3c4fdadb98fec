"""CLIP's tokenizer, built from the vocabulary that this package carries (Radford et al. 2021, section 2.4)."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..clip_bytes import BYTES

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

START: Final = "<|startoftext|>"
END: Final = "<|endoftext|>"
OPEN_CLIP_PAD: Final = "!"
CONTEXT_LENGTH: Final = 77
_MERGES = Path(__file__).parent / "vocabulary" / "merges.txt.gz"


def clip_tokenizer(*, pad: str = END) -> CLIPTokenizer:
    """Return a new CLIP tokenizer: 49,408 tokens, lower-casing, 77 tokens a prompt, nothing fetched.

    pad: the token that fills a prompt up to 77. `END` (49407) for Stable Diffusion 1 and SDXL's first encoder,
    `OPEN_CLIP_PAD` (0) for the OpenCLIP encoders of Stable Diffusion 2 and SDXL.

    Departure from the tokenizer folders published with SD2 and SDXL: those declare "!" a special token, so that an
    exclamation mark in a prompt turns into padding. Here it stays the word that CLIP learned (256).
    """
    from transformers import CLIPTokenizer  # only those who tokenize need transformers

    # A folder is the one form that every transformers release reads.
    with tempfile.TemporaryDirectory() as folder:
        vocab, rules = json.dumps(vocabulary(), ensure_ascii=False), "\n".join(merges())
        (Path(folder) / "vocab.json").write_text(vocab, encoding="utf-8")
        (Path(folder) / "merges.txt").write_text(f"#version: 0.2\n{rules}\n", encoding="utf-8")
        tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=CONTEXT_LENGTH, local_files_only=True)
    # Set afterwards: a pad token given to the constructor becomes a special token, see above.
    tokenizer.pad_token = pad
    return tokenizer


def vocabulary() -> dict[str, int]:
    """Return token -> id: 256 bytes, the same bytes at a word's end, one token a merge rule, start and end."""
    tokens = [*BYTES, *(f"{letter}</w>" for letter in BYTES)]
    tokens += [rule.replace(" ", "") for rule in merges()]
    return {token: index for index, token in enumerate([*tokens, START, END])}


def merges() -> list[str]:
    """Return the 48,894 merge rules, "left right", the one to apply first in front."""
    return gzip.decompress(_MERGES.read_bytes()).decode("utf-8").splitlines()
