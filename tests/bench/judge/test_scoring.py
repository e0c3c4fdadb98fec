import pytest

from tome_core.bench.judge import UNSURE, ColourFit, Found, Score, ShapeFit, judge, score
from tome_core.demo.scene import COLOURS
from training.demo.scene import Scene, Thing, render

RED_SQUARE, BLUE_CIRCLE = ("red", "square"), ("blue", "circle")
WANTED = (RED_SQUARE, BLUE_CIRCLE)


def found(colour, shape):
    """An object as the judge would report it; "unsure" colours and shapes have one that fits badly."""
    colour_fit = ColourFit("red", 0.5, 0.9, 1.0) if colour == UNSURE else ColourFit(colour, 0.0, 0.0, 1.0)
    shape_fit = ("square", 0.5, 0.9) if shape == UNSURE else (shape, 0.99, 0.1)
    return Found(colour_fit, ShapeFit(*shape_fit, cut=0.0, x=0.5, y=0.5, size=0.3))


def scored(*kinds, wanted=WANTED):
    return score([found(*kind) for kind in kinds], wanted)


def test_the_wanted_objects_and_nothing_else_are_fully_right_in_any_order():
    for kinds in (WANTED, WANTED[::-1]):
        result = scored(*kinds)
        assert result.fates == ("right", "right")
        assert result.right and result.present and result.binding == "right" and not result.unsure


def test_exchanged_colours_are_swapped():
    result = scored(("blue", "square"), ("red", "circle"))
    assert result.fates == ("swapped", "swapped")
    assert result.present and result.binding == "swapped" and not result.right


def test_one_colour_on_both_is_leaked():
    result = scored(("red", "square"), ("red", "circle"))
    assert result.fates == ("right", "leaked")
    assert result.binding == "leaked"


def test_the_other_ones_colour_beside_a_colour_of_nowhere_is_leaked():
    result = scored(("blue", "square"), ("green", "circle"))
    assert result.fates == ("leaked", "wrong")
    assert result.binding == "leaked"


def test_a_colour_that_nobody_asked_for_is_wrong():
    assert scored(("red", "square"), ("green", "circle")).binding == "wrong"
    assert scored(("green", "square"), wanted=[RED_SQUARE]).fates == ("wrong",)


def test_an_absent_shape_is_missing_and_ends_presence():
    result = scored(RED_SQUARE)
    assert result.fates == ("right", "missing")
    assert not result.present and result.binding is None and not result.right


def test_the_wanted_colour_on_an_unwanted_shape_is_missing_and_extra():
    result = scored(RED_SQUARE, ("blue", "star"))
    assert result.fates == ("right", "missing")
    assert [thing.shape for thing in result.extra] == ["star"]


def test_an_extra_object_ends_fully_right_but_neither_presence_nor_binding():
    result = scored(RED_SQUARE, BLUE_CIRCLE, ("red", "circle"))
    assert result.fates == ("right", "right")
    assert len(result.extra) == 1
    assert result.present and result.binding == "right" and not result.right


def test_an_unsure_colour_leaves_presence_and_makes_the_binding_unsure():
    result = scored(RED_SQUARE, (UNSURE, "circle"))
    assert result.fates == ("right", "unsure colour")
    assert result.present and result.binding == "unsure" and result.unsure and not result.right


def test_a_certain_error_outweighs_an_unsure_colour():
    assert scored((UNSURE, "square"), ("red", "circle")).binding == "leaked"


def test_an_unsure_shape_may_stand_for_one_missing_object_and_is_no_presence():
    result = scored(RED_SQUARE, ("blue", UNSURE))
    assert result.fates == ("right", "unsure shape")
    assert not result.present and result.unsure and not result.extra


def test_an_unsure_shape_stands_for_the_one_whose_colour_it_has():
    assert scored(("blue", UNSURE)).fates == ("missing", "unsure shape")


def test_an_unsure_object_beside_all_wanted_ones_is_extra():
    result = scored(RED_SQUARE, BLUE_CIRCLE, (UNSURE, UNSURE))
    assert result.fates == ("right", "right")
    assert len(result.extra) == 1 and result.unsure and not result.right


def test_an_empty_picture_misses_everything():
    assert scored().fates == ("missing", "missing")


def test_equal_wanted_objects_need_as_many_found_ones():
    wanted = (RED_SQUARE, RED_SQUARE)
    assert scored(RED_SQUARE, RED_SQUARE, wanted=wanted).right
    assert scored(RED_SQUARE, wanted=wanted).fates == ("right", "missing")


def test_two_objects_of_one_shape_are_told_apart_by_their_colours():
    wanted = (RED_SQUARE, ("blue", "square"))
    assert scored(("blue", "square"), RED_SQUARE, wanted=wanted).right
    assert scored(("blue", "square"), ("green", "square"), wanted=wanted).fates == ("wrong", "right")


def test_three_colours_that_move_on_by_one_are_leaked():
    wanted = (RED_SQUARE, BLUE_CIRCLE, ("green", "star"))
    moved = (("blue", "square"), ("green", "circle"), ("red", "star"))
    assert scored(*moved, wanted=wanted).fates == ("leaked", "leaked", "leaked")


def test_nothing_wanted_is_refused():
    with pytest.raises(ValueError, match="wanted must be at least one"):
        scored(wanted=())


def test_a_picture_with_swapped_colours_scores_as_swapped():
    places = {"square": 0.27, "circle": 0.73}
    colours = {"square": "blue", "circle": "red"}
    things = tuple(Thing(s, c, places[s], 0.5, 0.2, 0.1, COLOURS[c]) for s, c in colours.items())
    assert score(judge(render(Scene(things, (0.95, 0.95, 0.95)), 256)), WANTED).binding == "swapped"


EXTRA = (found("red", "square"),)


@pytest.mark.parametrize(
    ("score", "word"),
    [
        (Score(("right", "right"), ()), "right"),
        (Score(("right", "leaked"), ()), "leaked"),
        (Score(("right", "missing"), ()), "missing"),
        (Score(("right", "right"), EXTRA), "extra"),
        (Score(("right", "right"), (found(UNSURE, "square"),)), "unsure"),
        (Score(("right", "unsure colour"), EXTRA), "unsure"),
        (Score(("right", "unsure shape"), ()), "unsure"),
        (Score(("swapped", "swapped"), EXTRA), "swapped"),
    ],
)
def test_one_word_says_what_keeps_a_picture_from_being_right(score, word):
    assert score.word == word
