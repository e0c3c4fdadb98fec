import re

import numpy as np

from tome_core.demo.scene import COLOURS, SHAPES
from tome_core.demo.words import COLOUR_WORDS, SHAPE_WORDS, TAUGHT_WORDS, untaught_words
from training.demo.captions import caption
from training.demo.scene import random_scene


def captions(count: int, **shares: float) -> list[tuple[list[str], list[str], str]]:
    rng = np.random.default_rng(3)
    drawn = []
    for _ in range(count):
        scene = random_scene(rng)
        drawn.append(([t.colour for t in scene.things], [t.shape for t in scene.things], caption(scene, rng, **shares)))
    return drawn


def said(text: str, words: dict[str, tuple[str, ...]]) -> list[str]:
    """Names in the order in which a text says them."""
    names = {word: name for name, group in words.items() for word in group}
    return [names[word] for word in re.findall(r"[a-z]+", text) if word in names]


def test_every_colour_and_shape_has_words_of_its_own():
    assert set(COLOUR_WORDS) == set(COLOURS) and set(SHAPE_WORDS) == set(SHAPES)
    words = [word for group in (*COLOUR_WORDS.values(), *SHAPE_WORDS.values()) for word in group]
    assert len(words) == len(set(words))


def test_captions_say_nothing_that_the_scene_does_not_hold():
    for colours, shapes, text in captions(500):
        assert set(said(text, COLOUR_WORDS)) <= set(colours), text
        assert set(said(text, SHAPE_WORDS)) <= set(shapes), text


def test_both_words_of_a_thing_stand_together():
    full = 0
    for colours, shapes, text in captions(500):
        pairs = dict(zip(colours, shapes, strict=True))
        colour_order, shape_order = said(text, COLOUR_WORDS), said(text, SHAPE_WORDS)
        if len(colour_order) == len(shape_order) == len(colours):
            assert [pairs[colour] for colour in colour_order] == shape_order, text
            full += 1
    assert full > 300


def test_things_come_in_either_order_and_some_words_are_left_out():
    drawn = captions(600)
    two = [(colours, said(text, COLOUR_WORDS)) for colours, _, text in drawn if len(colours) == 2]
    full = [(colours, words) for colours, words in two if len(words) == 2]
    first = sum(colours[0] == words[0] for colours, words in full)
    assert 0.4 < first / len(full) < 0.6
    assert any(not said(text, COLOUR_WORDS) for _, _, text in drawn)
    assert any(not said(text, SHAPE_WORDS) for _, _, text in drawn)


def test_colours_said_apart_come_after_both_shapes_in_the_shapes_order():
    for colours, shapes, text in captions(300, apart_share=1.0):
        if len(colours) == 2:
            named = dict(zip(shapes, colours, strict=True))
            words = re.findall(r"[a-z]+", text)
            both = {**COLOUR_WORDS, **SHAPE_WORDS}
            first, second, c, d = said(" ".join(words), both)
            assert [c, d] == [named[first], named[second]], text


def test_some_pairs_are_said_apart_and_no_caption_changes_where_none_is():
    apart = [text for colours, _, text in captions(600, apart_share=0.3) if len(colours) == 2]
    share = sum(bool(re.search(r"a \w+ and a \w+( in|,) \w+ and \w+", text)) for text in apart) / len(apart)
    assert 0.2 < share < 0.4
    assert captions(50, apart_share=0.0) == captions(50)


def test_every_word_of_every_caption_is_taught():
    assert all(untaught_words(text) == [] for _, _, text in captions(500, apart_share=0.3))
    assert "square" in TAUGHT_WORDS and "c" not in TAUGHT_WORDS
