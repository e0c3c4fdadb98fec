"""Captions of scenes, drawn at random from the language of the demo model."""

import numpy as np

from tome_core.demo.words import (
    ANY_SHAPE,
    APART,
    COLOUR_ONLY,
    COLOUR_WORDS,
    FRAMES,
    FULL,
    JOINS,
    SHAPE_ONLY,
    SHAPE_WORDS,
)
from training.demo.scene import Scene, Thing

SYNONYM_SHARE = 0.15  # how often a word gives way to its synonym


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
        phrases = [_phrase(thing, rng) for thing in things]
        text = phrases[0] if len(phrases) == 1 else f"{phrases[0]}{rng.choice(JOINS)}{phrases[1]}"
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
