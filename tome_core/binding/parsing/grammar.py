"""From the words of a prompt to its groups, by rules about the words that are few: articles, prepositions, verbs.

Open words need not be known. Whatever stands between an article (or the beginning) and a verb, a preposition or a comma
is a noun phrase, and its last word is the noun.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from . import lexicon
from .noun_phrases import Line, NounPhrase, is_adjective, is_noun

_RESPECTIVELY: Final = "respectively"


class Word(NamedTuple):
    """A word in lower case, or the punctuation mark "," or ".", and the characters [start, end) that it takes."""

    text: str
    start: int
    end: int


def read_groups(words: list[Word]) -> dict[int, set[int]]:
    """Return the index of each thing in a run of words without full stops, and the indices of its modifiers, if any."""
    return _Reader([word.text for word in words]).read()


class _Reader:
    """One walk over the words, which remembers the thing that the next words may describe."""

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._line = Line(words)
        self._groups: dict[int, set[int]] = {}  # the modifiers of each thing
        self._owner: int | None = None  # the thing that was named last
        self._ended = -1  # the index after the last noun phrase
        self._is_open = False  # whether the last phrase described the owner, so that `and` may add to it

    def read(self) -> dict[int, set[int]]:
        index = 0
        while index < len(self._words):
            index = self._read_at(index)
        return self._groups

    def _read_at(self, i: int) -> int:
        """Read what begins at an index; return the index after it."""
        word = self._words[i]
        if self._owner is not None and (after := self._read_modifiers(self._owner, i)) is not None:
            return after
        is_left_over = i == self._ended and self._line.is_content(i)  # the phrase ended here because this is a verb
        if word in lexicon.BOUNDARIES or is_left_over or self._line.is_verb(i, i) or word == ",":
            self._is_open = False
            return i + 1
        phrase = self._line.noun_phrase(i)
        return i + 1 if phrase is None else self._begin(phrase)

    def _begin(self, phrase: NounPhrase) -> int:
        """Take a noun phrase as a thing, unless its noun is none; return the index after it."""
        noun, of = self._words[phrase.noun], self._line.at(phrase.end) == "of"
        self._is_open = False
        if noun in lexicon.PICTURES or not is_noun(noun) or (of and noun in lexicon.PARTITIVES | lexicon.RELATIONS):
            self._owner = None
            return phrase.end + of
        pairs, self._ended = _read_shared_colours(self._line, phrase.start)
        for thing, colour in pairs:
            self._groups[self._add(thing)] |= set(range(colour.first, colour.end))
        if pairs:
            self._owner = None
        else:
            self._owner, self._ended = self._add(phrase), phrase.end
        return self._ended

    def _add(self, phrase: NounPhrase) -> int:
        self._groups[phrase.noun] = self._without_commas(phrase.first, phrase.noun)
        return phrase.noun

    def _read_modifiers(self, owner: int, i: int) -> int | None:
        """Read modifiers of the owner from an index on; return the index after them, None if there are none."""
        after = (
            self._read_link(i)
            or self._read_predicate(i)
            or self._read_apposition(i)
            or (self._read_addition(i) if self._is_open else None)
        )
        if after is not None:
            self._groups[owner] |= self._without_commas(i, after)
            self._is_open, self._ended = True, after
        return after

    def _read_link(self, i: int) -> int | None:
        """Read `with a hat`, `wearing ...`, `of ...`, `made of ...`, `in a coat`, also behind a comma or `who`."""
        i += self._line.at(i) == ","
        i += self._line.at(i) in lexicon.RELATIVES
        word, k = self._line.at(i), i + 1
        if word in lexicon.PARTICIPLES and word != "full":
            k += self._line.at(k) in lexicon.AFTER_PARTICIPLE
            coloured = self._line.adjectives_end(k)
            if coloured > k and (phrase := self._line.noun_phrase(k)) is not None and phrase.end == coloured:
                return coloured
        elif word == "full" and self._line.at(k) == "of":
            k += 1
        elif word not in lexicon.BINDING_VERBS and word not in ("of", "in"):
            return None
        phrase = self._line.noun_phrase(k)
        is_of_place = word == "of" and i > 0 and self._words[i - 1] in lexicon.BOUNDARIES | lexicon.RELATIONS
        if phrase is None or is_of_place:
            return None
        noun = self._words[phrase.noun]
        is_elsewhere = word == "in" and noun not in lexicon.CLOTHES | lexicon.COLOURS
        is_apart = word == "with" and noun in lexicon.SCENERY | lexicon.ANIMATE
        return None if is_elsewhere or is_apart else phrase.end

    def _read_predicate(self, i: int) -> int | None:
        """Read `is red and round`, `that is red`, `whose hair is red`."""
        if self._line.at(i) == "whose":
            phrase = self._line.noun_phrase(i + 1)
            return None if phrase is None else self._read_predicate(phrase.end)
        i += self._line.at(i) in lexicon.RELATIVES
        after = self._line.adjectives_end(i + 1)
        is_predicate = self._line.at(i) in lexicon.COPULAS and after > i + 1
        return after if is_predicate and self._line.ends_before(after, i) else None

    def _read_apposition(self, i: int) -> int | None:
        """Read `, black and fluffy`: adjectives alone between commas."""
        after = self._line.adjectives_end(i + 1)
        is_apposition = self._line.at(i) == "," and after > i + 1 and self._line.at(after) in (",", "")
        return after if is_apposition and lexicon.STYLES.isdisjoint(self._words[i:after]) else None

    def _read_addition(self, i: int) -> int | None:
        """Read `and green eyes` after `with red hair`, `in its beak` after `with a key`."""
        link, phrase = self._line.at(i), self._line.noun_phrase(i + 1)
        if phrase is None:
            return None
        if link in lexicon.BOUNDARIES | {"in"} and self._line.at(i + 1) in lexicon.POSSESSIVES:
            return phrase.end
        follows = self._line.at(phrase.end)
        has_more = follows in lexicon.BINDING_VERBS | lexicon.PARTICIPLES | lexicon.COPULAS
        is_thing = has_more or self._words[phrase.noun] in lexicon.ANIMATE
        return None if link != "and" or is_thing else phrase.end

    def _without_commas(self, start: int, end: int) -> set[int]:
        return {k for k in range(start, end) if self._words[k] != ","}


def _read_shared_colours(line: Line, i: int) -> tuple[list[tuple[NounPhrase, NounPhrase]], int]:
    """Read N things without a colour, `in` or a comma, and N colours: `a circle and a star in blue and yellow`.

    After `are` they count only with `respectively`: "the cat and the dog are black and white" can mean both of both.
    Behind a comma "black and white" describes the picture, unless `respectively` is there.

    Returns:
        The things, each with its colour, none where something else stands there, and the index after them.
    """
    things = _read_series(line, i, _read_plain_thing)
    k = things[-1].end if things else i
    link = line.at(k)
    if len(things) < 2 or link not in {"in", ","} | lexicon.COPULAS:
        return [], i
    k += 1 + (link == "," and line.at(k + 1) == "in")
    is_explicit = line.at(k) == _RESPECTIVELY
    colours = _read_series(line, k + is_explicit, _read_colour)
    if len(colours) != len(things):
        return [], i
    end = colours[-1].end
    behind = end + (line.at(end) == ",")
    if line.at(behind) == _RESPECTIVELY:
        end, is_explicit = behind + 1, True
    is_of_picture = link == "," and {line.at(colour.noun) for colour in colours} == {"black", "white"}
    is_unsure = (link in lexicon.COPULAS or is_of_picture) and not is_explicit
    return ([], i) if is_unsure or not line.ends_before(end, i) else (list(zip(things, colours, strict=True)), end)


def _read_series(line: Line, i: int, read: Callable[[Line, int], NounPhrase | None]) -> list[NounPhrase]:
    """Return what `read` reads at an index, and behind each comma, `and` or both, until it reads nothing."""
    found: list[NounPhrase] = []
    while (phrase := read(line, i)) is not None:
        found.append(phrase)
        i = phrase.end + (line.at(phrase.end) == ",")
        i += line.at(i) == "and"
        if i == phrase.end:
            break
    return found


def _read_plain_thing(line: Line, i: int) -> NounPhrase | None:
    """Read a thing without a colour."""
    phrase = line.noun_phrase(i)
    words = {line.at(k) for k in range(phrase.first, phrase.end)} if phrase else set()
    is_other = words & (lexicon.COLOURS | lexicon.PICTURES)
    return phrase if phrase and is_noun(line.at(phrase.noun)) and not is_other else None


def _read_colour(line: Line, i: int) -> NounPhrase | None:
    """Read a colour with its shade, `dark blue`."""
    k = i
    while is_adjective(line.at(k)) and line.at(k) not in lexicon.COLOURS:
        k += 1
    return NounPhrase(i, i, k) if line.at(k) in lexicon.COLOURS else None
