"""From characters of a prompt to rows of its encoding: the table that each door makes from the host's own tokens."""

import unicodedata
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from ...clip_bytes import BYTES
from ..parsing.parse import Group, Parse, Span
from .composite import CHUNK, RowGroup

_END_OF_WORD: Final = "</w>"
_NO_BLANKS: Final = "\x1c\x1d\x1e\x1f"  # blanks to Python alone


class OtherTokensError(ValueError):
    """The tokens are not those of the text, as where a host changes it before it cuts it."""


@dataclass(frozen=True)
class TokenTable:
    """What one text encoder reads of a prompt.

    Attributes:
        text: the prompt.
        spans: the characters that each token was made from, in the order of tokens. Pieces of one character share it.
        rows: the row of each token, over all chunks.
        ends: the row of each chunk's end token.
    """

    text: str
    spans: tuple[Span, ...]
    rows: tuple[int, ...]
    ends: tuple[int, ...]

    def rows_of(self, span: Span) -> tuple[int, ...]:
        """Return the rows of the tokens that share a character with a span."""
        pairs = zip(self.spans, self.rows, strict=True)
        return tuple(row for (start, end), row in pairs if start < span.end and span.start < end)


def read_tokens(
    text: str,
    chunks: Sequence[Sequence[bytes | None]],
    *,
    kept: Container[int] | None = None,
    vectors: Sequence[Span] = (),
) -> TokenTable:
    """Return the table of a text and the tokens that a host made of it.

    CLIP's tokenizer composes accents (NFC), lowers case and drops blanks, and no more; so the tokens' bytes follow each
    other in the text. The host has cut off what is behind the last token.

    Args:
        text: the prompt as the host got it.
        chunks: the tokens of each chunk without start, end and padding, as UTF-8. None is one more token of the same
            characters, as textual inversion makes them; empty bytes are a vector in place of the next of `vectors`.
        kept: the positions of the characters that the host gives its tokenizer; None for all of them.
        vectors: names that a host may replace by vectors, or drop where it does not find them.

    Raises:
        OtherTokensError: the tokens are not those of the text.
    """
    letters = [(letter, span) for letter, span in _letters(text) if kept is None or span.start in kept]
    stream = b"".join(letter.encode() for letter, _ in letters)
    owners = [span for letter, span in letters for _ in letter.encode()]
    owned = [[at for at, (start, _) in enumerate(owners) if start in range(*name)] for name in vectors]
    names = {own[0]: own[-1] + 1 for own in owned if own}  # the byte behind each name, by its first
    spans: list[Span] = []
    at = 0
    for token in (token for chunk in chunks for token in chunk):
        if token is None and spans:
            spans.append(spans[-1])
        else:
            at, end = _find(stream, at, token or b"", names)
            spans.append(Span(owners[at].start, owners[end - 1].end))
            at = end
    ranges = [range(CHUNK * i + 1, CHUNK * i + 1 + len(chunk)) for i, chunk in enumerate(chunks)]
    rows = tuple(row for own in ranges for row in own)
    return TokenTable(text, tuple(spans), rows, tuple(own.stop for own in ranges))


def row_group(parse: Parse, group: Group, table: TokenTable) -> RowGroup:
    """Return the rows of a group of a parse.

    Raises:
        ValueError: the group is cut off by the end of what the host reads, or crosses from one chunk into the next.
    """
    words = " ".join(map(parse.words, group.spans))
    last = table.spans[-1].end if table.spans else 0
    if group.spans[-1].end > last:
        cut = parse.text[max(last, group.spans[0].start) : group.spans[-1].end].strip()
        found = f"got {words!r}, of which {cut!r} is cut off: shorten the prompt"
        raise ValueError(f"group must lie within what the model reads, {found}")
    noun = table.rows_of(group.subject)
    found = dict.fromkeys(row for span in group.modifiers for row in table.rows_of(span))
    modifiers = tuple(row for row in found if row not in noun)
    if len({row // CHUNK for row in (*noun, *modifiers)}) > 1:
        found = f"got {words!r} across two: move it, or shorten the prompt"
        raise ValueError(f"group must lie within one chunk of {CHUNK - 2} tokens, {found}")
    if not noun or not modifiers:
        raise ValueError(f"group must have tokens of its own for thing and modifiers, got {words!r}")
    return RowGroup(noun, modifiers)


def token_bytes(token: str) -> bytes:
    """Return the UTF-8 bytes of a token as CLIP's vocabulary writes it, without the mark of a word's end.

    Raises:
        OtherTokensError: the token is not of CLIP's vocabulary, which has a letter for every byte.
    """
    letters = token.removesuffix(_END_OF_WORD)
    if not all(letter in BYTES for letter in letters):
        raise OtherTokensError(f"token must be of CLIP's vocabulary, got {token!r}")
    return bytes(BYTES[letter] for letter in letters)


def _letters(text: str) -> list[tuple[str, Span]]:
    """Return the lower-case letters that the tokenizer sees, each with the characters that it was composed from."""
    starts = [i for i in range(len(text)) if i == 0 or _parts_at(text, i)]
    spans = [Span(*pair) for pair in pairwise([*starts, len(text)])]
    composed = [(unicodedata.normalize("NFC", text[start:end]), Span(start, end)) for start, end in spans]
    return [(letter.lower(), span) for letters, span in composed for letter in letters]


def _parts_at(text: str, i: int) -> bool:
    """Return whether the characters before a position compose with none behind it."""
    before, behind = text[max(0, i - 32) : i], text[i : i + 32]
    if before.isascii() and behind[:1].isascii():
        return True
    whole = unicodedata.normalize("NFC", before + behind)
    return whole == unicodedata.normalize("NFC", before) + unicodedata.normalize("NFC", behind)


def _find(stream: bytes, at: int, token: bytes, names: dict[int, int]) -> tuple[int, int]:
    """Return the bytes [start, end) of a token, the first ones from `at` on; names that were dropped are passed by.

    Raises:
        OtherTokensError: the token does not follow.
    """
    at = _skip(stream, at, token)
    if not token and at in names:
        return at, names[at]
    while at in names and not stream.startswith(token, at):
        at = _skip(stream, names[at], token)
    if not token or not stream.startswith(token, at):
        raise OtherTokensError(f"tokens must be those of the prompt, got {token.decode(errors='replace')!r}")
    return at, at + len(token)


def _skip(stream: bytes, at: int, token: bytes) -> int:
    """Return the next position at which a token begins, past blanks and past control characters that got lost."""
    while at < len(stream) and not 0x80 <= stream[at] < 0xC0:  # not within a letter
        letter = stream[at : at + 4].decode(errors="ignore")[:1]
        is_lost = unicodedata.category(letter) == "Cc" and not stream.startswith(token, at)
        if not (letter.isspace() and letter not in _NO_BLANKS) and not is_lost:
            return at
        at += len(letter.encode())
    return at
