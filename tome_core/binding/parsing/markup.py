"""Groups that a user names: marked in the prompt, `~a red ^cat~ beside a dog`, or listed apart, `cat: red; dog: hat`.

Neither sign means anything to ComfyUI, AUTOMATIC1111 or Forge. A tilde opens a group where a word begins, and closes it
where one ends; any other tilde is text, such as in "~10 apples and ~5 pears".
"""

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Final, NamedTuple

from . import lexicon
from .parse import Group, Span, plain

_MARK: Final = re.compile(r"(?<![^\s,(\[])~(?=[^\W_]|[\^(\[])((?:[^~]|(?<=\w)~(?=\w))*?)(?<![\s,(\[])~(?!\w)")
_WORD: Final = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


class Mark(NamedTuple):
    """A marked stretch of the text without markup, and in it the marked subject, if there is one."""

    span: Span
    subject: Span | None


def read_markup(text: str) -> tuple[str, list[Mark]]:
    """Return a text without markup, and the marks that were in it. A tilde that marks nothing stays.

    Raises:
        ValueError: a group holds nothing, or has two subjects.
    """
    kept, marks, position = "", [], 0
    for found in _MARK.finditer(text):
        kept += text[position : found.start()]
        marks.append(_mark(found[1], len(kept)))
        kept += found[1].replace("^", "")
        position = found.end()
    return kept + text[position:], marks


def unmarked(text: str) -> str:
    """Return a text without its markup, or as it is where the markup breaks a rule."""
    try:
        return read_markup(text)[0]
    except ValueError:
        return text


def marked_group(text: str, mark: Mark, find: Callable[[str], list[Group]]) -> Group:
    """Return the group of a mark. Where no subject is marked, it is the first that `find` finds, or the last word.

    Raises:
        ValueError: the mark holds no more than its subject, or no word at all.
    """
    start, end = mark.span
    inside = plain(text[start:end])
    words = [Span(start + found.start(), start + found.end()) for found in _WORD.finditer(inside)]
    if not words:
        raise _empty(text[start:end])
    subject = mark.subject
    if subject is None:
        first = next(iter(find(inside)), None)
        subject = words[-1] if first is None else Span(start + first.subject.start, start + first.subject.end)
    while words and text[words[0].start : words[0].end].lower() in lexicon.DETERMINERS:
        words = words[1:]
    before = [word for word in words if word.end <= subject.start]
    behind = [word for word in words if word.start >= subject.end]
    modifiers = tuple(Span(run[0].start, run[-1].end) for run in (before, behind) if run)
    if not modifiers:
        raise _empty(text[start:end])
    return Group(subject, modifiers)


def listed_groups(text: str, listing: str) -> list[Group]:
    """Return the groups of a listing "subject: words, words; subject: words".

    The second time that a subject is listed it is the next one of that name in the text. Of several positions of a
    modifier the one nearest to its subject counts. Case does not matter.

    Raises:
        ValueError: an entry is incomplete, names words that the text lacks, or shares words with another one.
    """
    words = plain(text)
    groups: list[Group] = []
    for entry in filter(None, map(str.strip, listing.split(";"))):
        subject, _, modifiers = (part.strip() for part in entry.partition(":"))
        names = [name for name in map(str.strip, modifiers.split(",")) if name]
        if not subject or not names:
            raise ValueError(f"groups must be like 'cat: red, wearing a hat; dog: black', got {entry!r}")
        groups.append(_listed_group(words, subject, names, [group.subject for group in groups]))
    for (start, end), following in pairwise(sorted(span for group in groups for span in group.spans)):
        if following.start < end:
            shared = text[max(start, following.start) : min(end, following.end)]
            raise ValueError(f"groups must not share words, got {shared!r} twice")
    return groups


def _mark(inside: str, start: int) -> Mark:
    if not _WORD.search(inside):
        raise _empty(inside)
    if inside.count("^") > 1:
        raise ValueError(f"group must have one ^ at most, got {f'~{inside}~'!r}")
    before, caret, after = inside.partition("^")
    named = _WORD.match(after)
    if caret and named is None:
        raise ValueError(f"^ must stand before a word, got {f'~{inside}~'!r}")
    subject = Span(start + len(before), start + len(before) + named.end()) if caret and named else None
    return Mark(Span(start, start + len(before) + len(after)), subject)


def _empty(inside: str) -> ValueError:
    return ValueError(f"group must hold a thing and words that describe it, as in ~a red cat~, got {f'~{inside}~'!r}")


def _listed_group(text: str, subject: str, names: list[str], taken: list[Span]) -> Group:
    own = next((span for span in _spans(text, subject) if span not in taken), None)
    if own is None:
        raise ValueError(f"groups must name words of the prompt, got {subject!r}{' once more' if taken else ''}")
    start = own.start
    nearest = [min(_spans(text, name), key=lambda span: abs(span.start - start)) for name in names]
    return Group(own, tuple(sorted(set(nearest))))


def _spans(text: str, words: str) -> list[Span]:
    """Return where whole words stand in a text, whatever their case and the blanks between them."""
    pattern = r"\s+".join(map(re.escape, words.split()))
    found = [Span(*match.span()) for match in re.finditer(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE)]
    if not found:
        raise ValueError(f"groups must name words of the prompt, got {words!r}")
    return found
