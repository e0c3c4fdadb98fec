"""A text encoder as AUTOMATIC1111 and Forge have it, without either: chunks of 77 tokens, and rows with emphasis.

The rules of the hosts are written anew and slowly, letter by letter. A row depends on every token before it in its
chunk, so that a wrong token anywhere shows.
"""

from __future__ import annotations

import re
from collections import namedtuple
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tests.binding.fake_clip import END, START, WIDTHS, tokenizer

Fix = namedtuple("Fix", ["offset", "embedding"])
ROOM = 75
COMMA = 267


@dataclass
class Chunk:
    """What a host hands out for one chunk."""

    tokens: list[int]
    multipliers: list[float]
    fixes: list[Any] = field(default_factory=list)


def segments(text: str) -> list[tuple[str, float]]:
    """Return the stretches of a prompt with their weights; BREAK has weight -1."""
    found: list[list[Any]] = []
    open_round: list[int] = []
    open_square: list[int] = []
    at = 0
    while at < len(text):
        letter, weight = text[at], re.match(r":\s*([+-]?[.\d]+)\s*\)", text[at:])
        if letter == "\\":
            escaped = text[at + 1 : at + 2] in ("\\", "(", ")", "[", "]") and text[at + 1 : at + 2]
            found.append([escaped or "", 1.0])
            at += 2 if escaped else 1
        elif letter in "([":
            (open_round if letter == "(" else open_square).append(len(found))
            at += 1
        elif weight is not None and open_round:
            _multiply(found, open_round.pop(), float(weight[1]))
            at += len(weight[0])
        elif letter == ")" and open_round:
            _multiply(found, open_round.pop(), 1.1)
            at += 1
        elif letter == "]" and open_square:
            _multiply(found, open_square.pop(), 1 / 1.1)
            at += 1
        else:
            run = weight[0] if weight is not None else re.match(r"[^\\()\[\]:]+|.", text[at:], re.DOTALL)[0]  # type: ignore[index]
            for number, part in enumerate(re.split(r"\s*\bBREAK\b\s*", run)):
                found += [["BREAK", -1.0]] * (number > 0) + [[part, 1.0]]
            at += len(run)
    for start in open_round:
        _multiply(found, start, 1.1)
    for start in open_square:
        _multiply(found, start, 1 / 1.1)
    joined: list[tuple[str, float]] = []
    for part, weight in found or [["", 1.0]]:
        if joined and joined[-1][1] == weight:
            joined[-1] = (joined[-1][0] + part, weight)
        else:
            joined.append((part, weight))
    return joined


def _multiply(found: list[list[Any]], start: int, factor: float) -> None:
    for one in found[start:]:
        one[1] *= factor


class Encoder:
    """One text encoder, as Forge names its parts; `hijack` in place of `embeddings` makes it one of AUTOMATIC1111's."""

    id_start, id_end = START, END

    def __init__(self, name: str = "l", emphasis: str = "Original", vectors: dict[str, Tensor] | None = None) -> None:
        self.width, self.vectors = WIDTHS[name], vectors or {}
        self.emphasis = SimpleNamespace(name=emphasis)
        self.embeddings = SimpleNamespace(fixes=None)
        self.encoded = 0
        self.lines: list[str] = []

    def tokenize_line(self, line: str) -> tuple[list[Chunk], int]:
        self.lines.append(line)
        chunks: list[Chunk] = [Chunk([], [])]
        for text, weight in [(line, 1.0)] if self.emphasis.name == "None" else segments(line):
            if text == "BREAK" and weight == -1:
                chunks.append(Chunk([], []))
                continue
            tokens = tokenizer()(text, add_special_tokens=False, truncation=False).input_ids
            while tokens:
                tokens = self._take(tokens, weight, chunks)
        if len(chunks) > 1 and not chunks[-1].tokens:
            chunks.pop()
        for chunk in chunks:
            gap = ROOM - len(chunk.tokens)
            chunk.tokens = [START, *chunk.tokens, *[END] * (gap + 1)]
            chunk.multipliers = [1.0, *chunk.multipliers, *[1.0] * (gap + 1)]
        return chunks, sum(len(chunk.tokens) for chunk in chunks)

    def _take(self, tokens: list[int], weight: float, chunks: list[Chunk]) -> list[int]:
        """Put the next word or textual inversion into the last chunk; return what is left."""
        name = next((name for name in sorted(self.vectors, key=len, reverse=True) if self._starts(tokens, name)), None)
        count = 1 if name is None else len(self.vectors[name])
        if len(chunks[-1].tokens) + count > ROOM:
            chunks.append(Chunk([], []))
        if name is not None:
            embedding = SimpleEmbedding(name, self.vectors[name])
            chunks[-1].fixes.append(Fix(len(chunks[-1].tokens), embedding))
        chunks[-1].tokens += [tokens[0]] if name is None else [0] * count
        chunks[-1].multipliers += [weight] * count
        return tokens[1 if name is None else len(_ids(name)) :]

    def _starts(self, tokens: list[int], name: str) -> bool:
        return tokens[: len(_ids(name))] == _ids(name)

    def process_tokens(self, tokens: list[list[int]], multipliers: list[list[float]]) -> Tensor:
        fixes = self.embeddings.fixes or [[] for _ in tokens]
        self.embeddings.fixes = None
        self.encoded += len(tokens)
        z = torch.stack([self._rows(*pair) for pair in zip(tokens, fixes, strict=True)])
        if self.emphasis.name not in ("Original", "No norm"):
            return z
        weighted = z * torch.tensor(multipliers).unsqueeze(2)
        return weighted * (z.mean() / weighted.mean()) if self.emphasis.name == "Original" else weighted

    def _rows(self, tokens: list[int], fixes: list[Any]) -> Tensor:
        values = torch.stack([_vector(token, self.width) for token in tokens])
        for fix in fixes:
            values[fix.offset + 1 : fix.offset + 1 + len(fix.embedding.vec)] = fix.embedding.vec
        return values + 0.1 * values.cumsum(0)

    def encode(self, lines: list[str]) -> Tensor:
        """Return rows [B, T, D] as the host encodes prompts in one batch, the shorter ones padded with empty chunks."""
        cut = [self.tokenize_line(line)[0] for line in lines]
        rows = []
        for number in range(max(map(len, cut))):
            empty = Chunk([START, *[END] * 76], [1.0] * 77)
            chunks = [own[number] if number < len(own) else empty for own in cut]
            self.embeddings.fixes = [chunk.fixes for chunk in chunks]
            rows.append(self.process_tokens([x.tokens for x in chunks], [x.multipliers for x in chunks]))
        return torch.cat(rows, dim=1)


@dataclass(eq=False)
class SimpleEmbedding:
    """A textual inversion."""

    name: str
    vec: Tensor

    @property
    def vectors(self) -> int:
        return len(self.vec)


def _ids(text: str) -> list[int]:
    return tokenizer()(text, add_special_tokens=False).input_ids


def _vector(token: int, width: int) -> Tensor:
    return torch.randn(width, generator=torch.Generator().manual_seed(token))
