"""What a parser finds in a prompt: things, and what is said of them, as spans of characters."""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple


class Span(NamedTuple):
    """The characters [start, end) of a text, counted from 0."""

    start: int
    end: int


@dataclass(frozen=True)
class Group:
    """A thing and what is said of it.

    Attributes:
        subject: the noun, with the word before it where the two name one thing.
        modifiers: what is said of it, function words included, in the text's order; never empty.
    """

    subject: Span
    modifiers: tuple[Span, ...]

    @property
    def spans(self) -> tuple[Span, ...]:
        """All of it, in the text's order."""
        return tuple(sorted((self.subject, *self.modifiers)))


@dataclass(frozen=True)
class Parse:
    """A prompt without markup, and its groups in the order of their subjects. `str` tells them in one line."""

    text: str
    groups: tuple[Group, ...] = ()

    def words(self, span: Span) -> str:
        """Return the text of a span."""
        return self.text[span.start : span.end]

    @property
    def labels(self) -> list[str]:
        """The text of each subject."""
        return [self.words(group.subject) for group in self.groups]

    def __str__(self) -> str:
        told = [
            f"{self.words(g.subject)} ({' + '.join(self.words(span) for span in g.modifiers)})" for g in self.groups
        ]
        return "; ".join(told) or "no groups"

    @property
    def bare(self) -> str:
        """The text without what is said of the things: what the end tokens of a bound prompt are taken from.

        An article before the words that go changes to fit the word behind them.
        """
        modifiers = sorted(span for group in self.groups for span in group.modifiers)
        if not modifiers:
            return self.text
        kept, place = "", 0
        for span in modifiers:
            kept += self.text[place : span.start] + _GONE
            place = span.end
        return _tidy(kept + self.text[place:])


_GONE: Final = "\0"


def _tidy(text: str) -> str:
    """Return a text without the brackets, blanks and commas around words that are gone, and what led to them alone."""
    while (bared := _without_brackets(text)) != text:  # each time one more pair of nested ones
        text = bared
    text = re.sub(rf"{_GONE},?\s+respectively\b|\brespectively\s+{_GONE}", _GONE, text)
    text = re.sub(rf"\b(?:in|is|are|was|were)\s+{_GONE}(?:\s*,?\s*(?:and\s+)?{_GONE})+", _GONE, text)  # one each
    text = re.sub(rf"(?:\b(?:and|in|of|with|wearing)\s+{_GONE}\s*)+(?=$|[,.;:!?)\]])", _GONE, text)
    text = re.sub(rf"\b(an?)(\s+){_GONE}[\s_]*(?=(\w))", _article, text, flags=re.IGNORECASE)
    text = re.sub(rf"{_GONE}_|{_GONE}", "", text)
    text = re.sub(r"(?<=\S) {2,}", " ", text)
    text = re.sub(r"\s+(?=[,.;:!?)\]])", "", text)
    return re.sub(r",(?:\s*,)+", ",", text).strip(" ,")


def _without_brackets(text: str) -> str:
    """Return a text with one mark for each run of words that are gone, and for the innermost brackets around them."""
    text = re.sub(rf"{_GONE}(?:\s*,?\s*{_GONE})*", _GONE, text)
    return re.sub(rf"\(\s*{_GONE}\s*(?::\s*[\d.]+\s*)?\)|\[\s*{_GONE}\s*\]", _GONE, text)


def _article(found: re.Match[str]) -> str:
    fitting = "an" if found[3].lower() in "aeiou" else "a"
    return (fitting.capitalize() if found[1][0] == "A" else fitting) + found[2]
