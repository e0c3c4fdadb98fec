"""Which characters of a prompt become tokens, against a slow reading of the host's rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.binding.fake_clip import segments
from tome_core.binding import Span
from tome_core.binding.doors.conditioning import embedding_names, kept_characters
from tome_core.binding.rows.table import OtherTokensError


def kept(text):
    places = kept_characters(text)
    return "".join(letter for place, letter in enumerate(text) if place in places)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a (red:1.3) cat", "a red cat"),
        ("((red) cat:0.8)", "red cat"),
        ("a \\(red\\) cat", "a (red) cat"),
        ("(a \\(red:1.2)", "a (red"),
        ("(red:blue)", "red:blue"),
        ("(:1.3)", ":1.3"),
        ("(a: cat", "(a: cat"),
        ("a) (red) cat", "a) (red) cat"),
        ("()", ""),
        ("a:1.3", "a:1.3"),
        ("", ""),
    ],
)
def test_brackets_and_weights_are_no_text(text, left):
    assert kept(text) == left


@given(st.text("ab():1.\\ ", max_size=14))
def test_what_is_kept_is_what_the_host_tokenizes(text):
    expected = "".join(part for part, _ in segments(text.replace("\\(", "\1").replace("\\)", "\2")))
    assert kept(text) == expected.replace("\1", "(").replace("\2", ")")


def test_brackets_are_read_to_a_depth_of_100():
    assert kept("(" * 100 + "red" + ")" * 100) == "red"
    for depth in (101, 2000):
        with pytest.raises(OtherTokensError, match="brackets must be at most 100 inside each other"):
            kept_characters("(" * depth + "red" + ")" * depth)


def test_names_of_embeddings_end_before_a_comma_and_at_brackets():
    text = "embedding:one, (embedding:two:1.2)x my_embedding:three embedding:four.pt"
    spans = embedding_names(text, kept_characters(text))
    assert [text[slice(*span)] for span in spans] == ["embedding:one", "embedding:two", "embedding:four.pt"]
    assert isinstance(spans[0], Span)
