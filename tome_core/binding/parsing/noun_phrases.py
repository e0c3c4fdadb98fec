"""Where noun phrases begin and end in a line of words, and which words are verbs, by place more than by name."""

from dataclasses import dataclass
from typing import Final

from . import lexicon

_CLOSED: Final = (lexicon.DETERMINERS, lexicon.BOUNDARIES, lexicon.PRONOUNS, lexicon.COPULAS, lexicon.RELATIVES)
_FUNCTION_WORDS: Final = frozenset({"", ",", "of", "in", "whose"}).union(
    *_CLOSED, lexicon.BINDING_VERBS, lexicon.CONJUNCTIONS, lexicon.STATES
)


@dataclass(frozen=True)
class NounPhrase:
    """Places of a noun phrase: `start` counts its article, `first` does not, `noun` is its last word."""

    start: int
    first: int
    noun: int

    @property
    def end(self) -> int:
        """The index after it."""
        return self.noun + 1


class Line:
    """Words in lower case, and commas between them; indices are counted from 0, and nothing stands behind the last."""

    def __init__(self, words: list[str]) -> None:
        self._words = words

    def at(self, i: int) -> str:
        """Return the word at an index; nothing behind the last."""
        return self._words[i] if i < len(self._words) else ""

    def noun_phrase(self, i: int) -> NounPhrase | None:
        """Return the noun phrase that begins at an index, if one does."""
        first = i
        while self.at(first) in lexicon.DETERMINERS or self.at(first).isdigit():
            first += 1
        k = first
        while self.is_content(k) and not self.is_verb(k, first, singular=self.at(i) in ("a", "an")):
            k += 1
            joins = self.at(k) == "and" or (self.at(k) == "," and first > i)
            if joins and self._are_adjectives(first, k) and self._goes_on(k + 1):
                k += 1
        while k > first and self.at(k - 1) in ("and", ","):  # what they joined was a verb
            k -= 1
        return NounPhrase(i, first, k - 1) if k > first else None

    def adjectives_end(self, i: int) -> int:
        """Return the index after the adjectives, joined by `and` or not, that begin at an index."""
        k = i
        while is_adjective(self.at(k)) or (k > i and self.at(k) == "and" and is_adjective(self.at(k + 1))):
            k += 1
        return k

    def ends_before(self, i: int, first: int) -> bool:
        """Return whether what began at `first` is over at an index, where no noun follows."""
        return not self.is_content(i) or self.is_verb(i, first)

    def is_content(self, i: int) -> bool:
        """Return whether the word at an index may be part of a noun phrase, as a participle before its noun may."""
        word, before = self.at(i), self.at(i - 1) if i else ""
        if word in lexicon.PARTICIPLES:
            is_behind = before not in _FUNCTION_WORDS and is_noun(before)
            return not is_behind and self.at(i + 1) not in lexicon.AFTER_PARTICIPLE
        return word not in _FUNCTION_WORDS and not word.isdigit()

    def is_verb(self, i: int, first: int, *, singular: bool = False) -> bool:
        """Return whether the word at an index is a verb, given where its phrase began and whether `a` stands before."""
        word, before, after = self.at(i), self.at(i - 1) if i else "", self.at(i + 1)
        is_after_noun = i > first and not is_adjective(before)
        ends_phrase = not self.is_content(i + 1)
        if word.endswith("ing") and len(word) > 4 and word not in lexicon.NOT_VERBS:
            if i == first:
                return before not in lexicon.DETERMINERS and (ends_phrase or word in lexicon.OBJECT_VERBS)
            return is_after_noun or ends_phrase
        if word.endswith("ed") and is_after_noun and after in lexicon.BOUNDARIES | {"in", "with"}:
            return True
        if i > first and word.endswith("s") and not word.endswith(("ss", "us", "is", "as", "'s")):
            is_known = _is_verb_in_s(word)
            return (singular and not (ends_phrase and not is_known)) or (
                ends_phrase and after not in ("", ",") and is_known
            )
        return is_after_noun and word in lexicon.VERBS and after in lexicon.BOUNDARIES | lexicon.DETERMINERS | {"in"}

    def _goes_on(self, i: int) -> bool:
        """Return whether an adjective at an index goes on with a noun phrase."""
        follows = self.is_content(i + 1) or self.at(i + 1) in ("and", ",")
        return self.is_content(i) and follows and is_adjective(self.at(i))

    def _are_adjectives(self, start: int, end: int) -> bool:
        return all(is_adjective(word) or word in ("and", ",") for word in self._words[start:end])


def is_adjective(word: str) -> bool:
    """Return whether a word is known as an adjective, or ends as adjectives do."""
    return word in lexicon.ADJECTIVES or (len(word) > 5 and word.endswith(lexicon.ADJECTIVE_ENDINGS))


def is_noun(word: str) -> bool:
    """Return whether a word can be the noun of a noun phrase."""
    return not is_adjective(word) or word in lexicon.NOUNS_TOO


def _is_verb_in_s(word: str) -> bool:
    """Return whether a word in -s is a form of a known verb."""
    bases = {word, word.removesuffix("s"), word.removesuffix("es"), word.removesuffix("ies") + "y"}
    return not bases.isdisjoint(lexicon.VERBS)
