"""The language of the demo model: what may be said of a scene, and which words that takes."""

import re
from typing import Final

import numpy as np

from .scene import Scene, Thing

COLOUR_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "red": ("red", "crimson"),
    "yellow": ("yellow", "golden"),
    "green": ("green", "emerald"),
    "blue": ("blue", "cobalt"),
    "purple": ("purple", "violet"),
    "black": ("black", "dark"),
}
SHAPE_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle", "pyramid"),
    "cross": ("cross", "plus"),
    "star": ("star", "starfish"),
}
SYNONYM_SHARE: Final = 0.15  # how often a word gives way to its synonym
ANY_SHAPE: Final = ("shape", "thing", "object")

FULL: Final = (
    "a {c} {s}",
    "a {c} {s}",
    "a {c} {s}",
    "{c} {s}",
    "one {c} {s}",
    "a {s} in {c}",
    "a {s} that is {c}",
    "the {s} is {c}",
)
COLOUR_ONLY: Final = ("a {c} {any}", "something {c}", "{c}")
SHAPE_ONLY: Final = ("a {s}", "one {s}", "{s}")
JOINS: Final = (" and ", " and ", " and ", " with ", " next to ", " beside ", ", ")
APART: Final = ("{first} and {second} in {c} and {d}", "{first} and {second}, {c} and {d}")
FRAMES: Final = ("{}", "{}", "{}", "{}", "a picture of {}", "a drawing of {}", "{} on a light ground")


def caption(scene: Scene, rng: np.random.Generator, *, apart_share: float = 0.0) -> str:
    """Say at random what a scene of one or two things holds: in either order, now and then less than all of it.

    Five of six things get both their colour and their shape; the others lose one of the two, as in people's captions.

    apart_share: how many of the pairs are named first, both colours after both shapes: a circle and a star in red and
        blue.
    """
    things = [scene.things[i] for i in rng.permutation(len(scene.things))]
    if len(things) == 2 and apart_share > 0 and rng.random() < apart_share:
        text = _apart(things, rng)
    else:
        said = [_phrase(thing, rng) for thing in things]
        text = said[0] if len(said) == 1 else f"{said[0]}{rng.choice(JOINS)}{said[1]}"
    return str(rng.choice(FRAMES)).format(text)


def _apart(things: list[Thing], rng: np.random.Generator) -> str:
    first, second = (f"a {_word(SHAPE_WORDS[thing.shape], rng)}" for thing in things)
    c, d = (_word(COLOUR_WORDS[thing.colour], rng) for thing in things)
    return str(rng.choice(APART)).format(first=first, second=second, c=c, d=d)


def _phrase(thing: Thing, rng: np.random.Generator) -> str:
    templates = FULL if (u := rng.random()) < 0.84 else COLOUR_ONLY if u < 0.92 else SHAPE_ONLY
    return str(rng.choice(templates)).format(
        c=_word(COLOUR_WORDS[thing.colour], rng), s=_word(SHAPE_WORDS[thing.shape], rng), any=rng.choice(ANY_SHAPE)
    )


def _word(words: tuple[str, ...], rng: np.random.Generator) -> str:
    return words[1] if rng.random() < SYNONYM_SHARE else words[0]


def _taught_words() -> frozenset[str]:
    templates = " ".join((*FULL, *COLOUR_ONLY, *SHAPE_ONLY, *JOINS, *FRAMES))
    words = {*re.findall(r"[a-z]+", re.sub(r"{.*?}", " ", templates)), *ANY_SHAPE}
    return frozenset(words.union(*COLOUR_WORDS.values(), *SHAPE_WORDS.values()))


TAUGHT_WORDS: Final = _taught_words()
"""Every word that a caption can hold, in lower case."""


def untaught_words(prompt: str) -> list[str]:
    """List the words of a prompt that no caption holds, in their order and once each, in lower case."""
    words = re.findall(r"[^\W\d_]+|\d+", prompt.lower())
    return [word for word in dict.fromkeys(words) if word not in TAUGHT_WORDS]
