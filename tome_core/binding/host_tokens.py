"""How a host of ComfyUI's kind cuts a prompt: chunks of (token, weight, word number) for each text encoder.

Start, end and padding have word number 0 there. A token is a number of CLIP's vocabulary, or a vector that stands in
place of one (textual inversion).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .composite import CHUNK
from .parse import Parse
from .table import OtherTokensError, TokenTable, read_tokens, row_groups, token_bytes
from .weighted import embedding_names, kept_characters

Tokens = Mapping[str, Sequence[Sequence[tuple[Any, ...]]]]
Spell = Callable[[int], str]

CLIP_TOWERS: Final = ("l", "h", "g")
"""The names of CLIP's text encoders, in the order of their columns."""


@dataclass(frozen=True)
class TowerTokens:
    """What one text encoder reads of a prompt.

    Attributes:
        table: which characters each token was made from.
        ends: the row of each chunk's end token, over all chunks.
    """

    table: TokenTable
    ends: tuple[int, ...]


def read_tower(text: str, chunks: Sequence[Sequence[tuple[Any, ...]]], spell: Spell) -> TowerTokens:
    """Return what a text encoder reads of a prompt.

    Args:
        text: the prompt as the host got it.
        chunks: its tokens, each with its word number.
        spell: from a token's number to the token as the vocabulary writes it.

    Raises:
        OtherTokensError: the tokens are not those of the text, or a chunk is not one of `CHUNK` rows as CLIP has them.
    """
    words = [_words(chunk) for chunk in chunks]
    kept = kept_characters(text)
    cut = [[_token(entry, before, spell) for before, entry in zip([None, *own], own, strict=False)] for own in words]
    table = read_tokens(text, cut, kept=kept, vectors=embedding_names(text, kept))
    return TowerTokens(table, tuple(i * CHUNK + 1 + len(own) for i, own in enumerate(words)))


def readable_groups(parse: Parse, towers: Sequence[TowerTokens]) -> tuple[Parse, list[str]]:
    """Return a parse with the groups that every text encoder reads in one chunk, and a sentence for each other one."""
    kept, notes = [], []
    for group in parse.groups:
        try:
            for tower in towers:
                row_groups(Parse(parse.text, (group,)), tower.table)
            kept.append(group)
        except ValueError as error:
            notes.append(f"Left unbound: {error}")
    return Parse(parse.text, tuple(kept)), notes


def without_rows(
    chunks: Sequence[Sequence[tuple[Any, ...]]], rows: Sequence[int], ends: Sequence[int], pad: tuple[Any, ...]
) -> tuple[list[list[tuple[Any, ...]]], tuple[int, ...]]:
    """Return chunks without the tokens of some rows, each padded again, and the rows of their end tokens.

    So every chunk without attributes stays beside its own, which a prompt that is cut anew does not promise.
    """
    gone, shorter, bare_ends = set(rows), [], []
    for number, chunk in enumerate(chunks):
        left = [entry for row, entry in enumerate(chunk) if number * CHUNK + row not in gone]
        lost = len(chunk) - len(left)
        shorter.append(left + [pad] * lost)
        bare_ends.append(ends[number] - lost)
    return shorter, tuple(bare_ends)


def _words(chunk: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return a chunk's tokens without start, end and padding."""
    words = [entry for entry in chunk if entry[2] != 0]
    last = len(words) + 1
    if len(chunk) != CHUNK or last >= CHUNK or chunk[0][2] != 0 or any(entry[2] != 0 for entry in chunk[last:]):
        raise OtherTokensError(f"tokens must be in chunks of {CHUNK} with start and end, got {len(chunk)} in one")
    return words


def _token(entry: tuple[Any, ...], before: tuple[Any, ...] | None, spell: Spell) -> bytes | None:
    if isinstance(entry[0], int):
        return token_bytes(spell(entry[0]))
    goes_on = before is not None and not isinstance(before[0], int) and before[2] == entry[2]
    return None if goes_on else b""
