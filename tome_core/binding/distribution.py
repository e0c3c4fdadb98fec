"""Colours said behind several things, one each: `a circle and a star in blue and yellow`."""

from typing import Final, NamedTuple

from . import lexicon
from .noun_phrases import Line, NounPhrase, is_adjective, is_noun

_RESPECTIVELY: Final = "respectively"


class Distribution(NamedTuple):
    """Things and as many colours: places of the nouns' phrases, of the words of each colour, and the place after."""

    things: list[NounPhrase]
    colours: list[range]
    end: int


def read_distribution(line: Line, i: int) -> Distribution | None:
    """Return what begins at a place, if it is N things without a colour, `in` or a comma, and N colours.

    After `are` it is only if `respectively` is said: "the cat and the dog are black and white" can mean both of both.
    Behind a comma "black and white" is what the picture is, unless that is said.
    """
    things = _things(line, i)
    k = things[-1].end if things else i
    link = line.at(k)
    if len(things) < 2 or link not in {"in", ","} | lexicon.COPULAS:
        return None
    k += 1 + (link == "," and line.at(k + 1) == "in")
    is_told = line.at(k) == _RESPECTIVELY
    colours = _colours(line, k + is_told)
    if len(colours) != len(things):
        return None
    end = colours[-1].stop
    behind = end + (line.at(end) == ",")
    if line.at(behind) == _RESPECTIVELY:
        end, is_told = behind + 1, True
    is_of_picture = link == "," and {line.at(colour[-1]) for colour in colours} == {"black", "white"}
    is_unsure = link in lexicon.COPULAS or is_of_picture
    is_whole = not line.is_content(end) or line.is_verb(end, i)
    return Distribution(things, colours, end) if is_whole and (is_told or not is_unsure) else None


def _things(line: Line, i: int) -> list[NounPhrase]:
    """Return the noun phrases without a colour that follow each other from a place, joined by `and` and commas."""
    found: list[NounPhrase] = []
    while (phrase := line.noun_phrase(i)) is not None and _is_plain(line, phrase):
        found.append(phrase)
        i = _after_joint(line, phrase.end)
        if i == phrase.end:
            break
    return found


def _is_plain(line: Line, phrase: NounPhrase) -> bool:
    words = {line.at(k) for k in range(phrase.first, phrase.end)}
    return is_noun(line.at(phrase.noun)) and not words & (lexicon.COLOURS | lexicon.PICTURES)


def _colours(line: Line, i: int) -> list[range]:
    """Return the places of each colour of a list from a place, with what shades it: `dark blue, red and green`."""
    found: list[range] = []
    while True:
        k = i
        while is_adjective(line.at(k)) and line.at(k) not in lexicon.COLOURS:
            k += 1
        if line.at(k) not in lexicon.COLOURS:
            return found
        found.append(range(i, k + 1))
        i = _after_joint(line, k + 1)
        if i == k + 1:
            return found


def _after_joint(line: Line, i: int) -> int:
    """Return the place behind a comma, an `and`, or both."""
    i += line.at(i) == ","
    return i + (line.at(i) == "and")
