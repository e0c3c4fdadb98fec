"""The words by which a prompt is taken apart: closed classes whole, open ones as far as prompts need them.

The lists are those of `lexicon.json` by the same names, but there adjectives lack the colours, and determiners the
possessives.
"""

import json
from pathlib import Path
from typing import Final

_LISTS: Final[dict[str, list[str]]] = json.loads(Path(__file__).with_name("lexicon.json").read_text("utf-8"))


def _words(name: str) -> frozenset[str]:
    return frozenset(_LISTS[name])


POSSESSIVES: Final = _words("possessives")
DETERMINERS: Final = POSSESSIVES | _words("determiners")
BOUNDARIES: Final = _words("boundaries")  # where a noun phrase ends: prepositions, adverbs of place, conjunctions
PRONOUNS: Final = _words("pronouns")
COPULAS: Final = _words("copulas")
RELATIVES: Final = _words("relatives")
CONJUNCTIONS: Final = _words("conjunctions")

BINDING_VERBS: Final = _words("binding_verbs")  # between a subject and what it wears, holds or has
PARTICIPLES: Final = _words("participles")  # between a subject and what it is made of or covered with
AFTER_PARTICIPLE: Final = _words("after_participle")
VERBS: Final = _words("verbs")  # base forms; their endings show them as verbs
OBJECT_VERBS: Final = _words("object_verbs")  # forms that begin a tag and take what follows as their object
NOT_VERBS: Final = _words("not_verbs")  # nouns that end as verbs do

COLOURS: Final = _words("colours")
ADJECTIVES: Final = COLOURS | _words("adjectives")
ADJECTIVE_ENDINGS: Final = tuple(_LISTS["adjective_endings"])
NOUNS_TOO: Final = _words("nouns_too")  # adjectives that are nouns as well
STYLES: Final = _words("styles")  # adjectives of the picture rather than of a thing in it
STATES: Final = _words("states")

ANIMATE: Final = _words("animate")
CLOTHES: Final = _words("clothes")
PICTURES: Final = _words("pictures")  # nouns for the picture itself: never subjects
SCENERY: Final = _words("scenery")  # nouns that belong to the scene rather than to the thing before `with`
PARTITIVES: Final = _words("partitives")
RELATIONS: Final = _words("relations")  # where something is, rather than a thing, before `of`
COMPOUNDS: Final = _words("compounds")  # two words for one thing: without the first, the second would be another thing
