import math

from tome_core.evaluation import UNSURE, ColourFit, Found, Score, ShapeFit, Summary, summarise

SQUARE = ShapeFit("square", 0.99, 0.1, 0.0, 0.5, 0.5, 0.3)
EXTRA = (Found(ColourFit("red", 0.0, 0.0, 1.0), SQUARE),)
UNSURE_EXTRA = (Found(ColourFit("red", 0.0, 0.0, 0.5), SQUARE),)


def test_every_kind_of_picture_is_counted_once_in_its_class():
    assert UNSURE_EXTRA[0].colour == UNSURE
    summary = summarise(
        [
            Score(("right", "right"), ()),
            Score(("right", "right"), EXTRA),
            Score(("right", "right"), UNSURE_EXTRA),
            Score(("swapped", "swapped"), ()),
            Score(("right", "leaked"), ()),
            Score(("leaked", "wrong"), ()),
            Score(("right", "wrong"), ()),
            Score(("right", "unsure colour"), ()),
            Score(("right", "unsure shape"), ()),
            Score(("right", "missing"), EXTRA),
        ]
    )
    assert summary == Summary(
        count=10,
        right=1,
        present=8,
        swapped=1,
        leaked=2,
        wrong=1,
        unsure_binding=1,
        missing=1,
        extra=3,
        unsure=3,
    )
    assert summary.binding_error == 4 / 8


def test_binding_error_without_presence_is_not_a_number():
    assert math.isnan(summarise([Score(("missing",), ())]).binding_error)
