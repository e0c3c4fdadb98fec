"""Which characters of a ComfyUI prompt become tokens: all but its brackets and weights, `((red) cat:1.3)`.

Brackets count only where they open and close a whole stretch; escaped ones, `\\(`, are text. A colon at which the last
number of a bracket begins is its weight. Text outside of that reaches the tokenizer as it is.
"""

import re
from typing import Final, NamedTuple

from .parse import Span

_EMBEDDING: Final = re.compile(r"(?<!\S)embedding:[^\s]*[^\s,]")


class _Letter(NamedTuple):
    text: str
    place: int
    is_bracket: bool


def kept_characters(text: str) -> frozenset[int]:
    """Return the places of the characters that the tokenizer is given."""
    return frozenset(letter.place for letter in _without_weights(_letters(text)))


def embedding_names(text: str, kept: frozenset[int]) -> tuple[Span, ...]:
    """Return where a prompt names embeddings, `embedding:name`, which may come out as vectors or as nothing."""
    spaced = "".join(letter if place in kept else " " for place, letter in enumerate(text))
    return tuple(Span(*found.span()) for found in _EMBEDDING.finditer(spaced))


def _letters(text: str) -> list[_Letter]:
    letters: list[_Letter] = []
    for place, letter in enumerate(text):
        is_bracket = letter in "()"
        if is_bracket and place and text[place - 1] == "\\":
            letters[-1] = _Letter(letter, place, False)
        else:
            letters.append(_Letter(letter, place, is_bracket))
    return letters


def _without_weights(letters: list[_Letter]) -> list[_Letter]:
    """Return letters without the brackets around each stretch, and without its weight."""
    kept: list[_Letter] = []
    for stretch in _stretches(letters):
        first, last = stretch[0], stretch[-1]
        if len(stretch) > 1 and (first.text, last.text) == ("(", ")") and first.is_bracket and last.is_bracket:
            kept += _without_weights(_without_number(stretch[1:-1]))
        else:
            kept += stretch
    return kept


def _stretches(letters: list[_Letter]) -> list[list[_Letter]]:
    """Return the stretches that brackets part at the outermost depth.

    A bracket that closes none leaves the depth below 0, as it does in the host, and those behind it part nothing.
    """
    stretches: list[list[_Letter]] = [[]]
    depth = 0
    for letter in letters:
        opens, closes = (letter.is_bracket and letter.text == sign for sign in "()")
        if opens and depth == 0:
            stretches.append([])
        stretches[-1].append(letter)
        depth += opens - closes
        if closes and depth == 0:
            stretches.append([])
    return [stretch for stretch in stretches if stretch]


def _without_number(letters: list[_Letter]) -> list[_Letter]:
    """Return the inside of a pair of brackets without the weight at its end."""
    colon = max((i for i, letter in enumerate(letters) if letter.text == ":"), default=0)
    try:
        float("".join(letter.text for letter in letters[colon + 1 :]))
    except ValueError:
        return letters
    return letters[:colon] if colon > 0 else letters
