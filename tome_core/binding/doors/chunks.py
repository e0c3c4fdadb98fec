"""Binding on what AUTOMATIC1111 and the Forge family make of a prompt: `bind_chunks(rows, parse, encoders, config)`.

These hosts cut a prompt into chunks of 77 tokens, and encode each with its emphasis. What they have encoded already is
the prompt; only the prompt without modifiers is encoded here, by the host itself. No host is imported: its text
encoders are known by the methods that they share.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, Protocol

import torch
from torch import Tensor

from ..config import BindingConfig
from ..encoding import Encoded, ReadPrompt, TextEncoder, encode_bound, read_prompt
from ..parsing.parse import Parse, Span
from ..rows.composite import CHUNK
from ..rows.table import OtherTokensError, TokenTable, read_tokens, token_bytes

START, END = 49406, 49407  # of CLIP's vocabulary
_SYNTAX: Final = re.compile(r"\\[\\()\[\]]?|[(\[]|:\s*([+-]?[.\d]+)\s*\)|[)\]]|[^\\()\[\]:]+|:")
_BREAK: Final = re.compile(r"\s*\bBREAK\b\s*")
_STRAIGHT: Final = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"'})
"""Quotes that some of the hosts' tokenizers straighten before they cut a text."""


class HostEncoder(Protocol):
    """One text encoder of a host, as far as it is used here."""

    def tokenize_line(self, line: str) -> tuple[Sequence[Any], int]:
        """Return the chunks of a text, each with `tokens`, `multipliers` and `fixes`; and how many tokens it has."""
        ...

    def process_tokens(self, tokens: list[list[int]], multipliers: list[list[float]]) -> Tensor:
        """Return rows [B, 77, D] of one chunk of each of B texts, emphasis applied."""
        ...


class Chunk(NamedTuple):
    """One chunk of a prompt.

    Attributes:
        tokens: `CHUNK` numbers of CLIP's vocabulary: start, words, end, and ends as padding.
        multipliers: the emphasis of each token.
        fixes: the host's, one for each textual inversion: `offset` is one less than its first row, `embedding` has
            a `name` and a number of `vectors`. Token 0 stands where its rows are.
    """

    tokens: tuple[int, ...]
    multipliers: tuple[float, ...]
    fixes: tuple[Any, ...]


_EMPTY: Final = Chunk((START, *[END] * (CHUNK - 1)), (1.0,) * CHUNK, ())


class BoundRows(NamedTuple):
    """The rows of a prompt, and what was read of it."""

    rows: Tensor
    read: ReadPrompt


class HostEncoders:
    """The text encoders of a host's model: one, or SDXL's two, whose columns stand side by side.

    Args:
        encoders: in the order of their columns. Textual inversions are handed to each as the host does, as `fixes` of
            its `hijack` (AUTOMATIC1111) or its `embeddings` (Forge).
        spell: from a token's number to the token as CLIP's vocabulary writes it.
        is_literal: whether brackets, weights and BREAK are plain text, as with the host's emphasis "None".
        before: is called once, before anything is encoded; it may bring the text encoders to their device.
    """

    def __init__(
        self,
        encoders: Sequence[HostEncoder],
        spell: Callable[[int], str],
        *,
        is_literal: bool = False,
        before: Callable[[], object] | None = None,
    ) -> None:
        self.spell, self.is_literal = spell, is_literal
        self._encoders, self._before = tuple(encoders), before
        self._encoded: dict[tuple[int, Chunk], Tensor] = {}

    def __len__(self) -> int:
        return len(self._encoders)

    @property
    def widths(self) -> list[int]:
        """The number of columns of each text encoder."""
        return [self.encode(number, _EMPTY).shape[-1] for number in range(len(self))]

    def cut(self, text: str) -> list[list[Chunk]]:
        """Return the chunks of a text for each text encoder."""
        lines = [encoder.tokenize_line(text)[0] for encoder in self._encoders]
        return [[Chunk(tuple(x.tokens), tuple(x.multipliers), tuple(x.fixes)) for x in chunks] for chunks in lines]

    def encode(self, number: int, chunk: Chunk) -> Tensor:
        """Return rows [77, D] of a chunk by the text encoder of a number, each chunk encoded once."""
        if self._before is not None:
            before, self._before = self._before, None
            before()
        if (number, chunk) not in self._encoded:
            encoder: Any = self._encoders[number]
            inversions = encoder.hijack if hasattr(encoder, "hijack") else encoder.embeddings
            inversions.fixes = [list(chunk.fixes)]
            try:
                rows = encoder.process_tokens([list(chunk.tokens)], [list(chunk.multipliers)])
            finally:
                inversions.fixes = None
            self._encoded[number, chunk] = rows[0]
        return self._encoded[number, chunk]


def bind_chunks(rows: Tensor, parse: Parse, encoders: HostEncoders, config: BindingConfig) -> BoundRows:
    """Return the rows of a prompt with its groups bound, of the shape, dtype and device of `rows`.

    At strength 0, without groups, and where the host's tokens are not those of the text, they are `rows` itself. Only
    chunks that lose words are encoded, and none if `ends` is "off".

    Args:
        rows: [T, D], as the host has encoded the prompt. It may have padded it with empty chunks, which stay.
        parse: the prompt and its groups.
        encoders: those that the rows are from.
        config: how to bind.
    """
    encoder = _ChunkEncoder(encoders, parse.text, rows)
    read = read_prompt([parse] * len(encoders), encoder)
    bound = encode_bound([read], encoder, config).rows[0][0]
    if config.is_neutral or not read.rows:
        return BoundRows(rows, read)
    return BoundRows(torch.cat([bound, rows[len(bound) :]]), read)


def kept_characters(text: str, *, is_literal: bool = False) -> frozenset[int]:
    """Return the indices of the characters of a prompt that reach the tokenizer.

    That is all but brackets that open or close a stretch, weights, the backslash before a bracket that is text, and
    BREAK with its blanks, which is a word where brackets change its weight.
    """
    return frozenset(range(len(text)) if is_literal else _without_syntax(text))


class _ChunkEncoder(TextEncoder):
    """A host's text encoders for one prompt, whose rows the host has made."""

    def __init__(self, encoders: HostEncoders, text: str, rows: Tensor) -> None:
        self._encoders, self._text, self._rows = encoders, text, rows
        self._own = encoders.cut(text)

    @property
    def widths(self) -> list[int]:
        return self._encoders.widths if len(self._encoders) > 1 else [self._rows.shape[-1]]

    def tokenise(self, texts: Sequence[str]) -> list[list[Chunk]]:
        return self._own if texts[0] == self._text else self._encoders.cut(texts[0])

    def tables(self, texts: Sequence[str], tokens: list[list[Chunk]]) -> list[TokenTable]:
        counts = {len(chunks) for chunks in (*self._own, *tokens)}
        if len(counts) > 1:
            raise OtherTokensError("text encoders must cut the prompt into as many chunks each, got different numbers")
        if max(counts) * CHUNK > len(self._rows) or len(self._rows) % CHUNK:
            raise OtherTokensError(f"rows must be {CHUNK} a chunk, got {len(self._rows)} for {max(counts)} chunks")
        return [self._table(texts[0], chunks) for chunks in tokens]

    def _table(self, text: str, chunks: Sequence[Chunk]) -> TokenTable:
        kept = kept_characters(text, is_literal=self._encoders.is_literal)
        cut = [_bytes(chunk, self._encoders.spell) for chunk in chunks]
        names = {fix.embedding.name for chunk in chunks for fix in chunk.fixes}
        vectors = _named(text, kept, sorted(names, key=len))
        try:
            return read_tokens(text, cut, kept=kept, vectors=vectors)
        except OtherTokensError:
            return replace(read_tokens(text.translate(_STRAIGHT), cut, kept=kept, vectors=vectors), text=text)

    def without(self, tokens: list[list[Chunk]], removed: Sequence[Sequence[int]]) -> list[list[Chunk]]:
        return [
            [_without(chunk, {row % CHUNK for row in gone if row // CHUNK == i}) for i, chunk in enumerate(chunks)]
            for chunks, gone in zip(tokens, removed, strict=True)
        ]

    def encode(self, prompts: Sequence[list[list[Chunk]]], *, rows_only: bool = False) -> Encoded:
        (tokens,) = prompts
        own = self._rows[: CHUNK * len(tokens[0])]
        if tokens == self._own:
            return Encoded([own.unsqueeze(0)], None)
        columns = own.split(self.widths, dim=-1)
        encoded = [self._encode(number, chunks, columns[number]) for number, chunks in enumerate(tokens)]
        return Encoded([torch.cat(encoded, dim=-1).unsqueeze(0)], None)

    def _encode(self, number: int, chunks: Sequence[Chunk], own: Tensor) -> Tensor:
        """Return rows [T, D] of one text encoder, given those of the whole prompt, where many a chunk is the same."""
        same = [chunk == whole for chunk, whole in zip(chunks, self._own[number], strict=True)]
        rows = [
            known if is_same else self._encoders.encode(number, chunk).to(own)
            for chunk, is_same, known in zip(chunks, same, own.split(CHUNK), strict=True)
        ]
        return torch.cat(rows)


def _without_syntax(text: str) -> Iterator[int]:
    """Yield the indices of the characters that are no syntax of the host, in any order."""
    walls: list[tuple[range, list[float]]] = []  # of each BREAK the characters, and its weight, as the host has it
    round_ones: list[int] = []  # the number of walls before each open bracket
    square_ones: list[int] = []

    def weigh(first: int, factor: float) -> None:
        for _, weight in walls[first:]:
            weight[0] *= factor

    for found in _SYNTAX.finditer(text):
        piece, start, end = found[0], *found.span()
        if piece[0] == "\\":
            yield from range(start + 1, end)
        elif piece in "([":
            (round_ones if piece == "(" else square_ones).append(len(walls))
        elif piece[-1] == ")" and round_ones:
            weigh(round_ones.pop(), float(found[1] or 1.1))
        elif piece == "]" and square_ones:
            weigh(square_ones.pop(), 1 / 1.1)
        else:
            own = [range(start + wall.start(), start + wall.end()) for wall in _BREAK.finditer(piece)]
            walls += [(wall, [-1.0]) for wall in own]
            yield from (i for i in range(start, end) if not any(i in wall for wall in own))
    for first, factor in [(x, 1.1) for x in round_ones] + [(x, 1 / 1.1) for x in square_ones]:
        weigh(first, factor)
    for wall, (weight,) in walls:
        if weight != -1:  # the host takes it for a word
            yield from wall


def _bytes(chunk: Chunk, spell: Callable[[int], str]) -> list[bytes | None]:
    """Return the words of a chunk as UTF-8: empty for a vector, None for a further vector of the same name.

    Raises:
        OtherTokensError: it is no chunk of `CHUNK` tokens as CLIP has them.
    """
    if len(chunk.tokens) != CHUNK or chunk.tokens[0] != START or chunk.tokens[-1] != END:
        raise OtherTokensError(
            f"tokens must be in chunks of {CHUNK} with start and end, got {len(chunk.tokens)} in one"
        )
    end = next(row for row in range(CHUNK, 0, -1) if chunk.tokens[row - 1] != END)
    vectors: dict[int, bytes | None] = {}
    for fix in chunk.fixes:
        first = fix.offset + 1
        vectors |= dict.fromkeys(range(first, first + int(fix.embedding.vectors))) | {first: b""}
    return [vectors[row] if row in vectors else token_bytes(spell(chunk.tokens[row])) for row in range(1, end)]


def _named(text: str, kept: frozenset[int], names: Sequence[str]) -> list[Span]:
    """Return where names stand in a text, whatever their case and the blanks in them, as the host compares tokens."""
    places = [i for i in sorted(kept) if not text[i].isspace()]
    letters = "".join(text[i].lower()[0] for i in places)
    found = []
    for name in names:
        pattern = re.escape("".join(name.lower().split()))
        spans = [x.span() for x in re.finditer(pattern, letters)] if pattern else []
        found += [Span(places[start], places[end - 1] + 1) for start, end in spans]
    return found


def _without(chunk: Chunk, gone: set[int]) -> Chunk:
    """Return a chunk without some of its rows, padded anew."""
    if not gone:
        return chunk
    left = [row for row in range(CHUNK) if row not in gone]
    fixes = [
        fix._replace(offset=fix.offset - sum(row <= fix.offset for row in gone))
        for fix in chunk.fixes
        if fix.offset + 1 not in gone
    ]
    return Chunk(
        (*(chunk.tokens[row] for row in left), *[END] * len(gone)),
        (*(chunk.multipliers[row] for row in left), *[1.0] * len(gone)),
        tuple(fixes),
    )
