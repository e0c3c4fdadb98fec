"""From the words of a prompt to its groups, by rules about the words that are few: articles, prepositions, verbs.

Open words need not be known. Whatever stands between an article (or the beginning) and a verb, a preposition or a comma
is a noun phrase, and its last word is the noun.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from . import lexicon
from .distribution import Distribution, read_distribution
from .noun_phrases import Line, NounPhrase, is_noun


class Word(NamedTuple):
    """A word in lower case, or the punctuation mark "," or ".", and the characters [start, end) that it takes."""

    text: str
    start: int
    end: int


@dataclass
class Draft:
    """A group in the making: places in the list of words, of the noun and of all that is said of it."""

    noun: int
    modifiers: set[int] = field(default_factory=set)


def read_groups(words: list[Word]) -> list[Draft]:
    """Return the groups of a run of words without full stops, in their order. A comma parts what `,` parts in it."""
    return [draft for draft in _Reader(words).read() if draft.modifiers]


class _Reader:
    """One walk over the words, with what it has to remember: whom the next words may be about."""

    def __init__(self, words: list[Word]) -> None:
        self._words = [word.text for word in words]
        self._line = Line(self._words)
        self._drafts: list[Draft] = []
        self._owner: Draft | None = None  # the thing that was named last
        self._ended = -1  # the place after the last noun phrase
        self._is_open = False  # whether the last phrase was said of the owner, so that `and` may add to it

    def read(self) -> list[Draft]:
        place = 0
        while place < len(self._words):
            place = self._read_at(place)
        return self._drafts

    def _read_at(self, i: int) -> int:
        """Read what begins at a place; return the place after it."""
        word = self._words[i]
        if self._owner is not None:
            after = self._read_about(self._owner, i)
            if after is not None:
                return after
        is_left_over = i == self._ended and self._line.is_content(i)  # the phrase ended here because this is a verb
        if word in lexicon.BOUNDARIES or is_left_over or self._line.is_verb(i, i) or word == ",":
            self._is_open = False
            return i + 1
        phrase = self._line.noun_phrase(i)
        if phrase is None:
            return i + 1
        return self._begin(phrase)

    def _begin(self, phrase: NounPhrase) -> int:
        """Take a noun phrase as a thing of its own, unless its noun is none."""
        noun, of = self._words[phrase.noun], self._line.at(phrase.end) == "of"
        self._is_open = False
        if noun in lexicon.PICTURES or not is_noun(noun) or (of and noun in lexicon.PARTITIVES | lexicon.RELATIONS):
            self._owner = None
            return phrase.end + of
        each = read_distribution(self._line, phrase.start)
        if each is not None:
            return self._distribute(each)
        self._ended = phrase.end
        self._owner = Draft(phrase.noun, self._without_commas(phrase.first, phrase.noun))
        self._drafts.append(self._owner)
        return phrase.end

    def _distribute(self, each: Distribution) -> int:
        """Take each of several things with its own colour."""
        for phrase, colour in zip(each.things, each.colours, strict=True):
            self._drafts.append(Draft(phrase.noun, self._without_commas(phrase.first, phrase.noun) | set(colour)))
        self._owner, self._ended = None, each.end
        return each.end

    def _read_about(self, owner: Draft, i: int) -> int | None:
        """Read what is said of the owner from a place on; None if that is nothing."""
        after = (
            self._read_link(i)
            or self._read_predicate(i)
            or self._read_apposition(i)
            or (self._read_addition(i) if self._is_open else None)
        )
        if after is None:
            return None
        owner.modifiers |= self._without_commas(i, after)
        self._is_open = True
        self._ended = after
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
        if word == "in" and noun not in lexicon.CLOTHES and noun not in lexicon.COLOURS:
            return None
        if word == "with" and noun in lexicon.SCENERY | lexicon.ANIMATE:
            return None
        return phrase.end

    def _read_predicate(self, i: int) -> int | None:
        """Read `is red and round`, `that is red`, `whose hair is red`."""
        if self._line.at(i) == "whose":
            phrase = self._line.noun_phrase(i + 1)
            return None if phrase is None else self._read_predicate(phrase.end)
        i += self._line.at(i) in lexicon.RELATIVES
        after = self._line.adjectives_end(i + 1)
        is_said = self._line.at(i) in lexicon.COPULAS and after > i + 1
        is_whole = not self._line.is_content(after) or self._line.is_verb(after, i)
        return after if is_said and is_whole else None

    def _read_apposition(self, i: int) -> int | None:
        """Read `, black and fluffy`: adjectives alone between commas."""
        after = self._line.adjectives_end(i + 1)
        is_said = self._line.at(i) == "," and after > i + 1 and self._line.at(after) in (",", "")
        is_style = any(word in lexicon.STYLES for word in self._words[i:after])
        return after if is_said and not is_style else None

    def _read_addition(self, i: int) -> int | None:
        """Read `and green eyes` after `with red hair`, `in its beak` after `with a key`."""
        if self._line.at(i) in lexicon.BOUNDARIES | {"in"} and self._line.at(i + 1) in lexicon.POSSESSIVES:
            phrase = self._line.noun_phrase(i + 1)
            return None if phrase is None else phrase.end
        if self._line.at(i) != "and":
            return None
        phrase = self._line.noun_phrase(i + 1)
        if phrase is None or self._words[phrase.noun] in lexicon.ANIMATE:
            return None
        follows = self._line.at(phrase.end)
        has_more = follows in lexicon.BINDING_VERBS | lexicon.PARTICIPLES | lexicon.COPULAS
        return None if has_more else phrase.end

    def _without_commas(self, start: int, end: int) -> set[int]:
        return {k for k in range(start, end) if self._words[k] != ","}
