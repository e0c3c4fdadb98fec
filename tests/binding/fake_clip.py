"""A text encoder as ComfyUI has it, without ComfyUI: chunks of (token, weight, word number), and rows with weights.

The rules of the host are written anew and slowly: its brackets by a scanner, its tokens by CLIP's real tokenizer. A row
depends on every token before it in its chunk, so that a wrong token anywhere shows.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import torch
from torch import Tensor

from tome_core.binding.doors.conditioning import HostClip
from tome_core.checkpoints.tokenizer import clip_tokenizer

WIDTHS = {"l": 8, "h": 8, "g": 12}
START, END = 49406, 49407
Chunks = list[list[tuple[Any, ...]]]


@functools.cache
def tokenizer() -> Any:
    return clip_tokenizer()


def segments(text: str, weight: float = 1.0) -> list[tuple[str, float]]:
    """Return the stretches of a prompt with their weights; escaped brackets are stood for by control characters."""
    found, depth, item = [], 0, ""
    for letter in text:
        if letter == "(" and depth == 0:
            found.append(item)
            item = ""
        item += letter
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == ")" and depth == 0:
            found.append(item)
            item = ""
    out: list[tuple[str, float]] = []
    for part in filter(None, [*found, item]):
        if len(part) > 1 and part[0] == "(" and part[-1] == ")":
            inner, own = part[1:-1], weight * 1.1
            head, colon, number = inner.rpartition(":")
            if colon and head and re.fullmatch(r"\s*-?\d*\.?\d+\s*", number):
                inner, own = head, float(number)
            out += segments(inner, own)
        else:
            out.append((part, weight))
    return out


def tokenize(text: str, numbered: bool, pad: int, vectors: dict[str, Tensor]) -> Chunks:
    words: list[list[tuple[Any, float]]] = []
    for part, weight in segments(text.replace("\\(", "\1").replace("\\)", "\2")):
        part = part.replace("\1", "(").replace("\2", ")")
        for word in re.split(r"(?:^|(?<=[ \n]))(?=embedding:)", part):
            if vectors and word.startswith("embedding:"):
                name, *rest = word.removeprefix("embedding:").split()
                bare = name.rstrip(",")
                words.append([(vector, weight) for vector in vectors.get(bare, [])])
                word = " ".join([name[len(bare) :], *rest])
            words.append([(token, weight) for token in tokenizer()(word).input_ids[1:-1]])
    chunks: Chunks = [[(START, 1.0, 0)]]
    for number, word in enumerate(words, start=1):
        for place, (token, weight) in enumerate(word):
            room = 76 - len(chunks[-1])
            if (place == 0 and len(word) < 8 and len(word) > room) or room == 0:
                chunks[-1] += [(END, 1.0, 0)] + [(pad, 1.0, 0)] * room
                chunks.append([(START, 1.0, 0)])
            chunks[-1].append((token, weight, number))
    chunks[-1].append((END, 1.0, 0))
    chunks[-1] += [(pad, 1.0, 0)] * (77 - len(chunks[-1]))
    return chunks if numbered else [[entry[:2] for entry in chunk] for chunk in chunks]


def rows_of(chunks: Chunks, width: int) -> Tensor:
    """Return [T, width]: a running sum of what each token stands for, weighted as the host weights rows."""
    out = []
    for chunk in chunks:
        values = torch.stack([_vector(token, width) for token, *_ in chunk])
        rows = values + 0.1 * values.cumsum(0)
        weights = torch.tensor([entry[1] for entry in chunk]).unsqueeze(1)
        out.append((rows - 1) * weights + 1 if bool((weights != 1).any()) else rows)
    return torch.cat(out)


def _vector(token: Any, width: int) -> Tensor:
    if isinstance(token, Tensor):
        return token
    return torch.randn(width, generator=torch.Generator().manual_seed(token))


def new_clip(*names: str, vectors: dict[str, Tensor] | None = None) -> HostClip:
    """Return a host with the text encoders of these names."""

    def cut(text: str, numbered: bool) -> dict[str, Chunks]:
        return {name: tokenize(text, numbered, END if name == "l" else 0, vectors or {}) for name in names}

    def encode(tokens: Any) -> list[list[Any]]:
        own = [rows_of(tokens[name], WIDTHS[name]) for name in ("l", "h", "g") if name in tokens]
        pooled = own[-1][:77].sum(0, keepdim=True)
        return [[torch.cat(own, dim=1).unsqueeze(0), {"pooled_output": pooled}]]

    return HostClip(cut, encode, lambda token: tokenizer().convert_ids_to_tokens(token), WIDTHS)
