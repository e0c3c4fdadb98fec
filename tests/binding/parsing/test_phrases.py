"""The parser: what it finds in prompts that were labelled by hand, what it leaves alone, and what a user may mark."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.binding import labelled
from tome_core.binding import Span, phrases
from tome_core.binding.parsing import lexicon


@pytest.mark.parametrize("kind", labelled.KINDS)
@pytest.mark.parametrize("half", labelled.HALVES)
def test_the_parser_agrees_with_the_labels(kind, half):
    prompts = labelled.load(kind, half)
    result, lines = labelled.score(prompts), labelled.wrong(prompts)
    print(f"{half} {kind}: {result}, F1 {result.f1:.3f}; differing:", *lines, sep="\n")
    assert len(prompts) >= 55
    assert result.f1 >= 0.9


def test_a_worse_parse_scores_less():
    prompt = labelled.read_label("a {red cat*} and a {dog* with a hat}")
    assert prompt.text == "a red cat and a dog with a hat"
    assert prompt.pairs == {(("cat", 6), ("red", 2)), (("dog", 16), ("hat", 27))}
    assert labelled.score([prompt]) == (2, 0, 0)
    assert labelled.score([prompt._replace(pairs=frozenset({(("dog", 16), ("red", 2))}))]) == (0, 2, 1)
    assert labelled.Score(2, 1, 3).f1 == pytest.approx(0.5)


RELATIONS = "top left right middle side edge bottom corner front back centre center".split()


@pytest.mark.parametrize("where", ["on {}", "to the {}", "at the far {}"])
@pytest.mark.parametrize("noun", RELATIONS)
def test_a_place_is_no_thing_and_what_it_is_of_is_one(where, noun):
    text = f"a red cube {where.format(noun)} of a blue sphere"
    assert str(phrases(text)) == "cube (red); sphere (blue)"
    assert str(phrases(text.replace("red ", "").replace("blue ", ""))) == "no groups"


def test_a_word_for_a_place_is_a_thing_where_no_of_follows():
    assert str(phrases("a girl with a red top beside a green corner")) == "girl (with a red top); corner (green)"


PARSES = [
    ("a cat wearing sunglasses and a dog wearing a hat", "cat (wearing sunglasses); dog (wearing a hat)"),
    ("a white cat and a black dog", "cat (white); dog (black)"),
    ("a red apple, a green apple and a yellow apple", "apple (red); apple (green); apple (yellow)"),
    ("a big, red, shiny ball", "ball (big + red + shiny)"),
    ("a cat, black and fluffy, on a sofa", "cat (black and fluffy)"),
    ("a red and blue ball", "ball (red and blue)"),
    ("a circle and a star in blue and yellow", "circle (blue); star (yellow)"),
    ("a big cube and a small ball, dark red and blue", "cube (big + dark red); ball (small + blue)"),
    ("a cup, a jug and a pan in red, blue and green, respectively", "cup (red); jug (blue); pan (green)"),
    ("a boy and a girl in blue and white shirts", "shirts (blue and white)"),
    ("a boy and a girl in blue", "girl (in blue)"),
    ("portrait of a boy and a girl, black and white", "girl (black and white)"),
    ("the square is red and the circle is blue", "square (is red); circle (is blue)"),
    ("a bear, a teddy bear with a bow", "teddy bear (with a bow)"),
    ("long_hair, blue_eyes, 1girl, white_dress", "hair (long); eyes (blue); dress (white)"),
    ("a (red:1.3) cat and a [blue] dog", "cat (red); dog (blue)"),
    ("a [red:0.5] cat and a blue dog", "dog (blue)"),
    ("a red cat BREAK with a hat", "cat (red)"),
    ("red hair AND blue eyes", "hair (red); eyes (blue)"),
    ("a red [cat:dog:0.3] on a {big|small} __thing__ embedding:green", "no groups"),
    ("a red <lora:style:0.8> cat", "cat (red)"),
    ("a red \\(shiny\\) cat", "cat (red \\(shiny)"),
    ("a cat and a dog", "no groups"),
    ("masterpiece, best quality, highly detailed", "no groups"),
    ("", "no groups"),
    (" , . ( ", "no groups"),
    ("赤い四角と青い丸", "no groups"),
    ("красный куб", "куб (красный)"),
]


@pytest.mark.parametrize(("text", "line"), PARSES)
def test_a_parse_is_written_in_one_line(text, line):
    assert str(phrases(text)) == line


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("a cat wearing sunglasses and a dog wearing a hat", "a cat and a dog"),
        ("an old man and a red apple", "a man and an apple"),
        ("An old man", "A man"),
        ("a big, red, shiny ball", "a ball"),
        ("a cat, black and fluffy, on a sofa", "a cat, on a sofa"),
        ("long_hair, blue_eyes, white_dress", "hair, eyes, dress"),
        ("a (red:1.3) cat, an hour", "a cat, an hour"),
        ("((red)) cat", "cat"),
        ("a (((red:1.2)), [big]:1.1) cat", "a cat"),
        ("a  cat ,  a dog", "a  cat ,  a dog"),
    ],
)
def test_without_what_is_said_the_things_remain(text, bare):
    assert phrases(text).bare == bare


@pytest.mark.parametrize(
    ("text", "listing", "bare"),
    [
        ("a cross and a circle in blue and purple", "cross: blue; circle: purple", "a cross and a circle"),
        ("a girl in red, in a park", "girl: red", "a girl, in a park"),
        ("a girl in red shoes", "girl: red", "a girl in shoes"),
        ("a cat and a dog", "cat: dog", "a cat and a"),
    ],
)
def test_words_that_led_to_what_is_said_alone_go_with_it(text, listing, bare):
    assert phrases(text, listing).bare == bare


@given(
    st.text(alphabet=st.sampled_from("a red cat with hat and , . ( ) [ ] : ~^_ é 猫🐱 the wearing is 1"), max_size=60)
)
def test_every_span_is_words_of_the_text_and_no_two_overlap(text):
    try:
        parse = phrases(text)
    except ValueError as error:  # a mark that holds nothing
        assert "~" in text
        assert str(error).startswith(("group must", "^ must"))
        return
    spans = sorted(span for group in parse.groups for span in group.spans)
    assert all(parse.words(span).strip() == parse.words(span) != "" for span in spans)
    assert all(one.end <= other.start for one, other in pairwise(spans))
    assert all(group.modifiers for group in parse.groups)


def test_marked_groups_are_the_only_ones_and_the_text_loses_the_marks():
    parse = phrases("a ~striped cat on stilts~ beside a red dog and ~the ^tower of glass~, ~ 5")
    assert parse.text == "a striped cat on stilts beside a red dog and the tower of glass, ~ 5"
    assert str(parse) == "cat (striped + on stilts); tower (of glass)"


def test_a_caret_names_the_subject():
    assert str(phrases("~cat in a ^box~")) == "box (cat in a)"


def test_a_tilde_inside_a_word_or_alone_marks_nothing():
    assert phrases("a~b c~ ~ d ~_~").text == "a~b c~ ~ d ~_~"


@pytest.mark.parametrize(
    "text",
    [
        *("at ~noon", "~5 pm", "~10 apples and ~5 pears", "a ~red cat", "a cat~ and a dog~", "a red cat, ~", "~a~b c"),
        *("a ~~ cat", "a ~  ~ cat", "~/pictures of a cat~", "a ~ red cat ~ on a hill", "~10~20 apples"),
    ],
)
def test_a_tilde_that_is_not_at_both_ends_of_words_is_text(text):
    assert phrases(text).text == text


def test_a_mark_begins_at_the_tilde_next_to_it_and_ends_where_a_word_does():
    parse = phrases("~10 apples, ~a~b red cat~, (~blue dog~)")
    assert parse.text == "~10 apples, a~b red cat, (blue dog)"
    assert parse.labels == ["cat", "dog"]


def test_groups_are_listed_apart_from_the_text():
    text = "a cat and a dog, one with sunglasses, one with a round hat, and another dog in plaid"
    parse = phrases(text, "Cat: round hat; dog: sunglasses; dog: in plaid")
    assert str(parse) == "cat (round hat); dog (sunglasses); dog (in plaid)"
    assert [group.subject.start for group in parse.groups] == [2, 12, text.rindex("dog")]
    assert phrases("red red cat", "cat: red").groups[0].modifiers == (Span(4, 7),)  # the nearest


EMPTY = "group must hold a thing and words that describe it, as in ~a red cat~"
HOST_SYNTAX = ("embedding:foo", "[red|blue]", "BREAK", "AND")


@pytest.mark.parametrize(
    ("text", "listing", "sentence"),
    [
        ("a ~(^)~ cat", "", f"{EMPTY}, got '~(^)~'"),
        *((f"~{inside}~", "", f"{EMPTY}, got '~{inside}~'") for inside in HOST_SYNTAX),
        ("a ~the cat~", "", f"{EMPTY}, got '~the cat~'"),
        ("~a ^red ^cat~", "", "group must have one ^ at most, got '~a ^red ^cat~'"),
        ("~a red ^ cat~", "", "^ must stand before a word, got '~a red ^ cat~'"),
        ("a red cat", "dog: red", "groups must name words of the prompt, got 'dog'"),
        ("a red cat", "cat: blue", "groups must name words of the prompt, got 'blue'"),
        ("a red cat", "cat: re", "groups must name words of the prompt, got 're'"),
        ("a red cat", "cat: red; cat: a", "groups must name words of the prompt, got 'cat' once more"),
        ("a red cat", "cat:", "groups must be like 'cat: red, wearing a hat; dog: black', got 'cat:'"),
        ("a red cat", ": red", "groups must be like 'cat: red, wearing a hat; dog: black', got ': red'"),
        ("a red cat, a dog", "cat: red; dog: red", "groups must not share words, got 'red' twice"),
        ("a ~red cat~", "cat: red", "groups must be listed or marked, not both, got 'cat: red' and 'a ~red cat~'"),
        ("a red cat", "cat: red cat", "groups must not share words, got 'cat' twice"),
    ],
)
def test_a_mistake_in_a_group_is_told_with_its_words(text, listing, sentence):
    with pytest.raises(ValueError) as caught:
        phrases(text, listing)
    assert str(caught.value) == sentence


def test_a_prompt_of_thousands_of_words_is_read_at_once():
    assert len(phrases("a red cat and a blue dog with a hat, " * 500).groups) == 1000


def test_no_list_of_the_lexicon_names_a_word_twice():
    lists = json.loads(Path(lexicon.__file__).with_suffix(".json").read_text("utf-8"))
    assert len(lists) > 15
    for name, words in lists.items():
        assert len(words) == len(set(words)), name


def test_every_list_of_the_lexicon_is_used():
    lists = json.loads(Path(lexicon.__file__).with_suffix(".json").read_text("utf-8"))
    assert {name.lower() for name in vars(lexicon) if name.isupper() and name[0] != "_"} == set(lists)


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("a circle and a star in blue and yellow on a table", "a circle and a star on a table"),
        ("a cup and a jug, red and blue", "a cup and a jug"),
        ("the cup and the jug are red and blue, respectively", "the cup and the jug"),
        ("a cup, a jug and a pan in respectively red, blue and green", "a cup, a jug and a pan"),
    ],
)
def test_nothing_is_left_of_colours_that_were_said_of_several_things(text, bare):
    assert phrases(text).bare == bare


def test_a_label_may_join_what_stands_apart():
    prompt = labelled.read_label("a {1:cup*} and a {2:jug*} in {1:red} and {2:blue}")
    assert prompt.text == "a cup and a jug in red and blue"
    assert prompt.pairs == {(("cup", 2), ("red", 19)), (("jug", 12), ("blue", 27))}
