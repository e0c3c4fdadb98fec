"""From characters of a prompt to rows of its encoding: the table that each door makes from the host's own tokens."""

import unicodedata
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from ..clip_bytes import BYTES
from .composite import CHUNK, RowGroup
from .parse import Group, Parse, Span

_END_OF_WORD: Final = "</w>"
_NO_BLANKS: Final = "\x1c\x1d\x1e\x1f"  # blanks to Python alone


class OtherTokensError(ValueError):
    """The tokens are not those of the text, as a host has them that changes it before it cuts it."""


class Place(NamedTuple):
    """A row of the encoding: its chunk, and its row in it, both counted from 0. Row 0 is the start token."""

    chunk: int
    row: int


@dataclass(frozen=True)
class TokenTable:
    """Which characters each token of a prompt was made from.

    Attributes:
        text: the prompt.
        spans: the characters of each token, in the order of tokens. Pieces of one character share it.
        places: where each token stands.
    """

    text: str
    spans: tuple[Span, ...]
    places: tuple[Place, ...]

    def places_of(self, span: Span) -> tuple[Place, ...]:
        """Return where the tokens are that share a character with a span."""
        return tuple(
            place
            for (start, end), place in zip(self.spans, self.places, strict=True)
            if start < span.end and span.start < end
        )


def read_tokens(
    text: str,
    chunks: Sequence[Sequence[bytes | None]],
    *,
    kept: Container[int] | None = None,
    vectors: Sequence[Span] = (),
) -> TokenTable:
    """Return the table of a text and the tokens that a host made of it.

    CLIP's tokenizer composes accents (NFC), lowers case and drops blanks, and no more; so the tokens' bytes follow each
    other in the text. Text behind the last token was cut off by the host.

    Args:
        text: the prompt as the host got it.
        chunks: the tokens of each chunk without start, end and padding, as UTF-8. None is one more token of the same
            characters, as textual inversion makes them; empty bytes are a vector in place of the next of `vectors`.
        kept: the places of the characters that the host gives its tokenizer; None for all of them.
        vectors: names that a host may replace by vectors, or drop where it does not find them.

    Raises:
        OtherTokensError: the tokens are not those of the text.
    """
    letters = [(letter, span) for letter, span in _letters(text) if kept is None or span.start in kept]
    stream = b"".join(letter.encode() for letter, _ in letters)
    owners = [span for letter, span in letters for _ in letter.encode()]
    names = _ends(owners, vectors)
    spans: list[Span] = []
    places: list[Place] = []
    at = 0
    for chunk, tokens in enumerate(chunks):
        for row, token in enumerate(tokens, start=1):
            if token is None and spans:
                spans.append(spans[-1])
            else:
                at, end = _find(stream, at, token or b"", names)
                spans.append(Span(owners[at].start, owners[end - 1].end))
                at = end
            places.append(Place(chunk, row))
    return TokenTable(text, tuple(spans), tuple(places))


def row_groups(parse: Parse, table: TokenTable) -> tuple[RowGroup, ...]:
    """Return the rows of each group of a parse, numbered over all chunks.

    Raises:
        ValueError: a group is cut off by the end of what the host reads, or crosses from one chunk into the next.
    """
    return tuple(_row_group(parse, group, table) for group in parse.groups)


def token_bytes(token: str) -> bytes:
    """Return the UTF-8 bytes of a token as CLIP's vocabulary writes it, without the mark of a word's end.

    Raises:
        OtherTokensError: the token is not of CLIP's vocabulary, which has a letter for every byte.
    """
    letters = token.removesuffix(_END_OF_WORD)
    if not all(letter in BYTES for letter in letters):
        raise OtherTokensError(f"token must be of CLIP's vocabulary, got {token!r}")
    return bytes(BYTES[letter] for letter in letters)


def _row_group(parse: Parse, group: Group, table: TokenTable) -> RowGroup:
    told = " ".join(parse.words(span) for span in group.spans)
    noun = table.places_of(group.subject)
    said = [table.places_of(span) for span in group.modifiers]
    last = table.spans[-1].end if table.spans else 0
    if group.spans[-1].end > last:
        cut = parse.text[max(last, group.spans[0].start) : group.spans[-1].end].strip()
        raise ValueError(f"group must lie within what the model reads, got {told!r}, of which {cut!r} is cut off")
    modifiers = tuple(dict.fromkeys(place for places in said for place in places if place not in noun))
    chunks = {place.chunk for place in (*noun, *modifiers)}
    if len(chunks) > 1:
        raise ValueError(f"group must lie within one chunk of {CHUNK - 2} tokens, got {told!r} across two")
    if not noun or not modifiers:
        raise ValueError(f"group must have tokens of its own for subject and attributes, got {told!r}")
    return RowGroup(_rows(noun), _rows(modifiers))


def _rows(places: Iterable[Place]) -> tuple[int, ...]:
    return tuple(place.chunk * CHUNK + place.row for place in places)


def _letters(text: str) -> list[tuple[str, Span]]:
    """Return the lower-case letters that the tokenizer sees, each with the characters that it was composed from."""
    letters = []
    for start, end in _composed(text):
        letters += [(letter.lower(), Span(start, end)) for letter in unicodedata.normalize("NFC", text[start:end])]
    return letters


def _composed(text: str) -> list[Span]:
    """Return the stretches of a text that compose apart from each other, each as short as can be."""
    if unicodedata.is_normalized("NFC", text):
        return [Span(i, i + 1) for i in range(len(text))]
    starts = [i for i in range(len(text)) if i == 0 or _parts_at(text, i)]
    return [Span(start, end) for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]


def _parts_at(text: str, i: int) -> bool:
    """Whether the characters before a place compose with none behind it."""
    start = max(0, i - 32)
    before, behind = text[start:i], text[i : i + 32]
    whole = unicodedata.normalize("NFC", before + behind)
    return whole == unicodedata.normalize("NFC", before) + unicodedata.normalize("NFC", behind)


def _ends(owners: Sequence[Span], names: Sequence[Span]) -> dict[int, int]:
    """Return the byte behind each name, by its first byte."""
    found = {}
    for name in names:
        places = [at for at, (start, _) in enumerate(owners) if name.start <= start < name.end]
        if places:
            found[places[0]] = places[-1] + 1
    return found


def _find(stream: bytes, at: int, token: bytes, names: dict[int, int]) -> tuple[int, int]:
    """Return the bytes [start, end) of a token, the first ones from a place on; names that were dropped are passed by.

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
    """Return the next place at which a token begins, past blanks and past control characters that got lost."""
    while at < len(stream) and not 0x80 <= stream[at] < 0xC0:  # not within a letter
        letter = stream[at : at + 4].decode(errors="ignore")[:1]
        is_control = unicodedata.category(letter) == "Cc"
        is_lost = is_control and not stream.startswith(token, at)
        if not (letter.isspace() and letter not in _NO_BLANKS) and not is_lost:
            return at
        at += len(letter.encode())
    return at
