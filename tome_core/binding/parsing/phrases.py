"""From a prompt to its groups: which words describe which thing, as spans of characters.

Hu et al. 2024, section 3.2, group a noun with all words related to it, function words included. The authors' code
reads them off a parse by spaCy; here rules do it, for sentences and for lists of tags, without any dependency.
"""

import re
from collections.abc import Callable
from itertools import groupby
from typing import Final

from . import lexicon
from .grammar import Word, read_groups
from .markup import listed_groups, marked_group, read_markup, unmarked
from .parse import Group, Parse, Span, plain

_WORD: Final = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[,.;:!?\n]")
_TAG_LENGTH: Final = 3.0
"""Words between two commas, on average, up to which a prompt is a list of tags."""

Parser = Callable[[str], Parse]
"""From a prompt to its groups, and its text without markup."""


def phrases(text: str, listing: str = "") -> Parse:
    """Return a prompt without markup, and its groups: those that the user names, or else those found by rules.

    The rules read English, as sentences or as lists of tags. Host syntax (weights, schedules, BREAK, extra networks)
    is read through, or separates the words it stands between. Text in which no thing is found, among it text in other
    scripts, has no groups.

    Args:
        text: the prompt. `~a red cat wearing sunglasses~` marks a group, and `^` in it the subject where the rules
            would take another: `~a red ^cat~`. With any mark, the marked groups are all.
        listing: groups apart from the text, "cat: sunglasses; dog: a hat", in words of the text; takes the place of
            the rules.

    Raises:
        ValueError: a group is empty or overlaps another one, or names a word that the text lacks; or groups are listed
            and marked.
    """
    marked = text
    text, marks = read_markup(text)
    if listing.strip() and marks:
        raise ValueError(f"groups must be listed or marked, not both, got {listing!r} and {marked!r}")
    if listing.strip():
        groups = listed_groups(text, listing)
    else:
        groups = [marked_group(text, mark, find_groups) for mark in marks] or find_groups(text)
    return Parse(text, tuple(sorted(groups, key=lambda group: group.subject)))


def phrases_or_none(text: str, parser: Parser) -> Parse:
    """Return what a parser finds; of a text that it refuses no groups, and the text without markup if that is whole.

    For prompts that are encoded and not bound, so that marks reach no text encoder.
    """
    try:
        return parser(text)
    except ValueError:
        return Parse(unmarked(text))


def find_groups(text: str) -> list[Group]:
    """Return the groups that the rules find in a text without markup."""
    found = [_group(words, *group) for words in _clauses(text) for group in read_groups(words).items()]
    return [group for group in found if group.modifiers]


def _clauses(text: str) -> list[list[Word]]:
    """Return the words of each stretch that no group reaches across: a sentence, or one tag of a list."""
    words = [Word(found[0].lower().replace("’", "'"), *found.span()) for found in _WORD.finditer(plain(text))]
    tags = _split(words, "\n.;:!?,")
    has_articles = any(tag[0].text in ("a", "an", "the") for tag in tags)
    is_list = len(tags) > 2 and sum(map(len, tags)) / len(tags) <= _TAG_LENGTH and not has_articles
    return tags if is_list else _split(words, "\n.;:!?")


def _split(words: list[Word], marks: str) -> list[list[Word]]:
    return [list(run) for is_mark, run in groupby(words, lambda word: word.text in marks) if not is_mark]


def _group(words: list[Word], noun: int, modifiers: set[int]) -> Group:
    """Return a group, its words joined to spans; a compound's first word moves to the subject."""
    first = noun
    if first - 1 in modifiers and f"{words[first - 1].text} {words[first].text}" in lexicon.COMPOUNDS:
        first -= 1
        modifiers = modifiers - {first}
    numbered = groupby(enumerate(sorted(modifiers)), lambda pair: pair[1] - pair[0])  # equal in a run of neighbours
    runs = [[index for _, index in run] for _, run in numbered]
    return Group(_span(words, first, noun), tuple(_span(words, run[0], run[-1]) for run in runs))


def _span(words: list[Word], first: int, last: int) -> Span:
    return Span(words[first].start, words[last].end)
