"""Groups from a parse by spaCy, for those who have it and a model of English: `choose_parser("spacy")`.

The authors' code of Hu et al. 2024 takes groups from spaCy's dependencies, too, by the rules of SynGen. What a thing
wears or holds, which they list by hand, comes here from its clauses and prepositions.
"""

from collections.abc import Callable, Iterable
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from itertools import groupby
from typing import Any, Final

from . import lexicon
from .parse import Group, Parse, Span, plain
from .phrases import phrases

PARSERS: Final = ("auto", "rules", "spacy")
_MODIFIERS: Final = ("amod", "nmod", "npadvmod", "nummod", "acl", "relcl")
_SIZES: Final = ("trf", "lg", "md", "sm")  # the most exact first
_THINGS: Final = ("NOUN", "PROPN")


def choose_parser(name: str = "rules") -> Callable[..., Parse]:
    """Return what reads a prompt as `phrases` does, with groups by its rules or by spaCy.

    "auto" is spaCy where it is installed with a model of English. The groups of a prompt then differ between machines,
    which is why "rules" is the default everywhere.

    Raises:
        ValueError: the name is none of `PARSERS`, or spaCy or its model is not installed.
    """
    if name not in PARSERS:
        raise ValueError(f"parser must be one of {PARSERS}, got {name!r}")
    models = [] if name == "rules" else _models()
    if name == "spacy" and not models:
        wanted = "with spacy and a model of it installed (python -m spacy download en_core_web_sm)"
        raise ValueError(f"parser must be 'rules' unless chosen {wanted}, got {name!r}")
    if not models:
        return phrases
    pipeline = _load(models[0])
    return partial(phrases, find=lambda text: doc_groups(pipeline(plain(text))))


def doc_groups(doc: Any) -> list[Group]:
    """Return the groups of a parsed `spacy.tokens.Doc`, in the order of their things.

    Modifiers of a noun are its adjectives, nouns beside it that are no part of its name, clauses ("wearing a hat",
    "that is red"), predicates ("the cat is black"), and phrases with "with", or with "in" before clothes and colours.
    A noun within the modifiers of another one has no group of its own.
    """
    taken: set[int] = set()
    groups = []
    for token in doc:
        if token.pos_ not in _THINGS or token.i in taken or token.dep_ == "compound":
            continue
        name = {token.i} | {child.i for child in token.children if child.dep_ == "compound" and child.i == token.i - 1}
        modifiers = _modifiers(token) - name
        if modifiers:
            taken |= modifiers | name
            subject = Span(doc[min(name)].idx, token.idx + len(token))
            groups.append(Group(subject, tuple(_runs(doc, modifiers))))
    return groups


def _modifiers(noun: Any) -> set[int]:
    """Return the places of all words that describe a noun."""
    places = {word.i for child in noun.children if _is_modifier(child) for word in child.subtree}
    if noun.dep_ == "nsubj" and noun.head.lemma_ == "be":
        predicates = [child for child in noun.head.children if child.dep_ == "acomp"]
        places |= {word.i for child in predicates for word in (noun.head, *child.subtree)}
    return {i for i in places if noun.doc[i].pos_ != "PUNCT"}


def _is_modifier(child: Any) -> bool:
    if child.dep_ != "prep":
        return child.dep_ in _MODIFIERS or (child.dep_ == "compound" and child.i < child.head.i - 1)
    objects = {word.text.lower() for word in child.children if word.dep_ == "pobj"}
    link = child.text.lower()
    return link == "with" or (link == "in" and bool(objects & (lexicon.CLOTHES | lexicon.COLOURS)))


def _runs(doc: Any, places: Iterable[int]) -> list[Span]:
    """Return places as spans of words that stand side by side."""
    runs = [[i for _, i in run] for _, run in groupby(enumerate(sorted(places)), lambda pair: pair[1] - pair[0])]
    return [Span(doc[run[0]].idx, doc[run[-1]].idx + len(doc[run[-1]])) for run in runs]


def _models() -> list[str]:
    """Return the installed models of English, the most exact first; none without spaCy."""
    if find_spec("spacy") is None:
        return []
    names = [name for name in import_module("spacy.util").get_installed_models() if name.startswith("en_")]
    return sorted(names, key=lambda name: [not name.endswith(size) for size in _SIZES])


@cache
def _load(name: str) -> Callable[[str], Any]:
    return import_module("spacy").load(name)
