"""What a parser reads and finds: a prompt as plain words, and things with their modifiers, as spans of characters.

The hosts' prompt languages add to plain words: ComfyUI and AUTOMATIC1111 share weights `(red:1.3)`; the latter has
`[red]`, `[red:blue:0.3]`, `[red|blue]`, `BREAK`, `AND` and `<lora:name:1>`; the former `embedding:name` and
`{red|blue}`; both know `__wildcard__` by an extension.
"""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

STOP: Final = "\n"
"""What stands for text that no group reaches across."""

_CLEAR: Final = (  # read through, as if it were not there; the first of them first
    re.compile(r"<[^<>\s]+:[^<>]*>"),  # an extra network
    re.compile(r":\s*[-+]?\d*\.?\d+\s*(?=\))"),  # a weight; `[red:0.5]` is a schedule
    re.compile(r"\\?[()]"),
)
_OPAQUE: Final = (  # words that come and go while sampling, or that only the host can read
    re.compile(r"\[[^\[\]]*[:|][^\[\]]*\]"),
    re.compile(r"\{[^{}]*\}"),
    re.compile(r"__[^\s,]+?__"),
    re.compile(r"\bembedding:\S+"),
    re.compile(r"\b(?:BREAK|AND)\b"),
)
_BRACKETS: Final = re.compile(r"\\?[\[\]]")
_GONE: Final = "\0"
"""What stands for words that are gone."""


class Span(NamedTuple):
    """The characters [start, end) of a text, counted from 0."""

    start: int
    end: int


@dataclass(frozen=True)
class Group:
    """A thing and its modifiers.

    Attributes:
        subject: the noun, with the word before it where the two name one thing.
        modifiers: the words that describe it, function words included, in the text's order; never empty.
    """

    subject: Span
    modifiers: tuple[Span, ...]

    @property
    def spans(self) -> tuple[Span, ...]:
        """The subject and the modifiers, in the text's order."""
        return tuple(sorted((self.subject, *self.modifiers)))


@dataclass(frozen=True)
class Parse:
    """A prompt without markup, and its groups in the order of their subjects. `str` gives them in one line."""

    text: str
    groups: tuple[Group, ...] = ()

    def words(self, span: Span) -> str:
        """Return the text of a span."""
        return self.text[span.start : span.end]

    def modifiers(self, group: Group) -> str:
        """Return the modifiers of a group in one line."""
        return " + ".join(map(self.words, group.modifiers))

    @property
    def labels(self) -> list[str]:
        """The text of each subject."""
        return [self.words(group.subject) for group in self.groups]

    def __str__(self) -> str:
        found = [f"{label} ({self.modifiers(group)})" for label, group in zip(self.labels, self.groups, strict=True)]
        return "; ".join(found) or "no groups"

    @property
    def bare(self) -> str:
        """The text without the modifiers, from which the end tokens of a bound prompt are taken.

        An article before the words that go changes to fit the word behind them.
        """
        kept, position = "", 0
        for span in sorted(span for group in self.groups for span in group.modifiers):
            kept += self.text[position : span.start] + _GONE
            position = span.end
        return _tidy(kept + self.text[position:]) if kept else self.text


def plain(text: str) -> str:
    """Return a prompt of the same length in which host syntax is blank, or a `STOP` where it separates words."""
    for pattern in _CLEAR:
        text = pattern.sub(lambda found: " " * len(found[0]), text)
    for pattern in _OPAQUE:
        text = pattern.sub(lambda found: STOP * len(found[0]), text)
    return _BRACKETS.sub(lambda found: " " * len(found[0]), text)


def _tidy(text: str) -> str:
    """Return a text without the brackets, blanks and commas around words that are gone, or words that led to them."""
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
