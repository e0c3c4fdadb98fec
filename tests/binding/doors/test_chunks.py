"""Rows of a webui's prompts: which tokens are which characters, and what becomes of several chunks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.binding.fake_clip import WIDTHS, tokenizer
from tests.binding.fake_webui import Encoder, segments
from tome_core.binding import BindingConfig, phrases
from tome_core.binding.doors.chunks import HostEncoders, bind_chunks, kept_characters
from tome_core.binding.encoding import report

COLOURS = "a red circle and a blue square"
SUMS = BindingConfig(ends="off", removed="keep")
FAMILIES = pytest.mark.parametrize("names", [("l",), ("g",), ("l", "g")], ids="".join)


def towers(*encoders, is_literal=False):
    return HostEncoders(encoders, lambda token: tokenizer().convert_ids_to_tokens(token), is_literal=is_literal)


def rows_of(*encoders, text):
    return torch.cat([encoder.encode([text])[0] for encoder in encoders], dim=1)


def bind(text, config=SUMS, encoder=None, listing="", **more):
    encoder = encoder or Encoder()
    rows = rows_of(encoder, text=text)
    return rows, bind_chunks(rows, phrases(text, listing), towers(encoder, **more), config)


def groups(bound):
    return [(group.noun, group.modifiers) for group in bound.read.bound.groups]


def expected(rows, found):
    rows = rows.clone()
    own = rows.clone()
    for group in found.read.bound.groups:
        rows[group.noun[0]] = own[list(group.rows)].sum(0)
    return rows


@pytest.mark.parametrize("emphasis", ["Original", "No norm", "Ignore"])
def test_rows_are_merged_after_the_emphasis(emphasis):
    rows, bound = bind("a (red:1.3) \\(nice\\) circle, and [a] ((blue)) square", encoder=Encoder(emphasis=emphasis))
    assert [noun for noun, _ in groups(bound)] == [(6,), (11,)]
    assert torch.allclose(bound.rows, expected(rows, bound), atol=1e-5)
    assert not torch.allclose(bound.rows, rows, atol=1e-2)


def test_brackets_are_words_where_the_emphasis_is_none():
    rows, bound = bind("a red (circle) BREAK a blue square", encoder=Encoder(emphasis="None"), is_literal=True)
    assert len(rows) == 77 and len(groups(bound)) == 2
    assert groups(bound)[0] == ((4,), (2,))
    _, refused = bind("a red (circle) BREAK a blue square", encoder=Encoder(emphasis="None"))
    assert "tokens must be those of the prompt" in report(refused.read)


def test_end_tokens_are_those_of_the_hosts_prompt_without_modifiers():
    encoder = Encoder()
    _, bound = bind("an (orange:1.2) circle and a blue square", BindingConfig(), encoder)
    bare = rows_of(encoder, text="a circle and a square")
    assert torch.allclose(bound.rows[8:77], bare[6:75], atol=1e-5)


@FAMILIES
def test_each_text_encoder_is_bound_in_its_own_columns(names):
    encoders = [Encoder(name) for name in names]
    rows = rows_of(*encoders, text=COLOURS)
    bound = bind_chunks(rows, phrases(COLOURS), towers(*encoders), BindingConfig())
    parts = rows.split([WIDTHS[name] for name in names], dim=1)
    for own, found, name in zip(parts, bound.rows.split([len(x.T) for x in parts], dim=1), names, strict=True):
        assert torch.equal(found, bind_chunks(own, phrases(COLOURS), towers(Encoder(name)), BindingConfig()).rows)


@pytest.mark.parametrize("wall", [" BREAK ", " and" * 70 + ". "])
def test_each_chunk_ends_as_that_chunk_does_without_modifiers(wall):
    encoder = Encoder()
    rows, bound = bind(f"a red circle{wall}a blue square", BindingConfig(), encoder)
    assert len(rows) == 154 and len(groups(bound)) == 2
    first = rows_of(encoder, text=f"a circle{wall}a square" if "BREAK" in wall else f"a circle{wall}")
    last = bound.read.rows[0].ends[0]
    assert torch.allclose(bound.rows[last:76], first[last - 1 : 75], atol=1e-4)
    end, bare = bound.read.rows[0].ends[1], rows_of(encoder, text="a square" if "BREAK" in wall else "square")
    assert groups(bound)[1][0][0] > 77
    assert torch.allclose(bound.rows[end:153], bare[end - 78 : 75], atol=1e-4)


def test_a_chunk_that_keeps_its_words_is_not_encoded_again():
    encoder = Encoder()
    text = "a red circle BREAK a forest BREAK a lake"
    rows = rows_of(encoder, text=text)
    encoder.encoded = 0
    bound = bind_chunks(rows, phrases(text), towers(encoder), BindingConfig())
    assert encoder.encoded == 1 and torch.equal(bound.rows[77:], rows[77:])
    encoder.encoded = 0
    bind_chunks(rows, phrases(text), towers(encoder), SUMS)
    assert encoder.encoded == 0


def test_chunks_with_which_the_host_pads_a_prompt_stay():
    encoder = Encoder()
    own, padded = encoder.encode([COLOURS])[0], encoder.encode([COLOURS, COLOURS + " BREAK a lake"])[0]
    assert len(padded) == 154
    bound = bind_chunks(padded, phrases(COLOURS), towers(encoder), BindingConfig())
    alone = bind_chunks(own, phrases(COLOURS), towers(encoder), BindingConfig())
    assert torch.allclose(bound.rows[:77], alone.rows, atol=1e-4)
    assert torch.equal(bound.rows[77:], padded[77:])


def test_textual_inversions_move_the_rows_behind_them_and_count_as_their_names():
    vectors = {"toy-x": torch.randn(3, 8), "toy": torch.randn(2, 8), "style": torch.randn(4, 8)}
    encoder = Encoder(vectors=vectors)
    text = "TOY-X, a red (circle:1.2) and a toy square, stylesheet style"
    rows, bound = bind(text, encoder=encoder, listing="circle: red; square: toy")
    assert groups(bound) == [((7,), (6,)), ((12,), (10, 11))]
    assert torch.allclose(bound.rows, expected(rows, bound), atol=1e-5)


@pytest.mark.parametrize("text", ["toy a red circle BREAK a blue toy square", "a red toy square and toy"])
def test_textual_inversions_go_or_move_with_the_words_that_go(text):
    vectors = {"toy": torch.randn(2, 8)}
    encoder, listing = Encoder(vectors=vectors), "square: red" if "BREAK" not in text else "circle: red; square: toy"
    _, bound = bind(text, BindingConfig(), encoder, listing)
    bare = text.replace("red ", "").replace("blue toy", "blue")
    found, end = bound.read.rows[0].ends[-1], bound.read.rows[0].bare_ends[-1]
    assert torch.allclose(bound.rows[found], rows_of(encoder, text=bare)[end], atol=1e-4)


def test_an_embedding_is_taken_back_where_the_host_fails():
    class Failing(Encoder):
        def process_tokens(self, tokens, multipliers):
            raise RuntimeError("out of memory")

    encoder = Failing()
    with pytest.raises(RuntimeError):
        bind_chunks(torch.zeros(77, 8), phrases(COLOURS), towers(encoder), BindingConfig())
    assert encoder.embeddings.fixes is None


def test_the_hosts_rows_stay_as_they_are_and_nothing_bound_is_the_rows_themselves():
    encoder = Encoder()
    rows = rows_of(encoder, text=COLOURS)
    kept = rows.clone()
    assert bind_chunks(rows, phrases(COLOURS), towers(encoder), BindingConfig()).rows is not rows
    assert torch.equal(rows, kept)
    assert bind_chunks(rows, phrases(COLOURS), towers(encoder), BindingConfig(strength=0)).rows is rows
    plain = rows_of(encoder, text="a circle")
    assert bind_chunks(plain, phrases("a circle"), towers(encoder), BindingConfig()).rows is plain


def test_half_types_and_the_device_of_the_hosts_rows_stay():
    for dtype in (torch.float16, torch.bfloat16):
        encoder = Encoder()
        rows = rows_of(encoder, text=COLOURS).to(dtype)
        assert bind_chunks(rows, phrases(COLOURS), towers(encoder), BindingConfig()).rows.dtype == dtype


def test_a_groups_strength_lies_between_its_own_rows_and_bound_ones():
    rows, full = bind(COLOURS)
    _, half = bind(COLOURS, BindingConfig(ends="off", removed="keep", strength=0.5))
    assert torch.allclose(half.rows, (rows + full.rows) / 2, atol=1e-5)


def test_curly_quotes_that_a_tokenizer_straightens_are_read():
    class Straightening(Encoder):
        def tokenize_line(self, line):
            return super().tokenize_line(line.replace("’", "'"))

    _, bound = bind("the cat’s red hat", encoder=Straightening(), listing="hat: red")
    assert groups(bound) == [((5,), (4,))] and bound.read.bound.parse.text == "the cat’s red hat"


def test_a_host_whose_rows_are_of_another_prompt_leaves_it_unbound():
    encoder = Encoder()
    for rows in (torch.zeros(77, 8), torch.zeros(155, 8)):
        text = f"{COLOURS} BREAK a red circle"
        bound = bind_chunks(rows, phrases(text), towers(encoder), BindingConfig())
        assert bound.rows is rows
        assert report(bound.read).startswith(f"Nothing bound: rows must be 77 a chunk, got {len(rows)} for 2 chunks")


def test_text_encoders_of_different_chunks_leave_the_prompt_unbound():
    other = Encoder("g", vectors={"red": torch.randn(74, 12)})
    rows = torch.zeros(154, 20)
    bound = bind_chunks(rows, phrases(COLOURS), towers(Encoder(), other), BindingConfig())
    assert bound.rows is rows and "as many chunks each" in report(bound.read)


def test_what_must_come_before_is_done_once_and_for_encoding_alone():
    calls = []
    encoder = Encoder()
    before = HostEncoders(
        [encoder], lambda token: tokenizer().convert_ids_to_tokens(token), before=lambda: calls.append(1)
    )
    rows = rows_of(encoder, text=COLOURS)
    bind_chunks(rows, phrases(COLOURS), before, SUMS)
    bind_chunks(rows, phrases("a circle"), before, BindingConfig())
    assert calls == []
    for text in (COLOURS, "a red square and a blue star"):
        bind_chunks(rows_of(encoder, text=text), phrases(text), before, BindingConfig())
    assert calls == [1]


PIECES = [
    "red",
    "(",
    ")",
    "[",
    "]",
    ":1.2)",
    ":",
    "\\",
    "\\(",
    "\\]",
    " BREAK ",
    "BREAKS",
    " ",
    "a cat",
    "1.5",
    ":.5 )",
    "Ä",
]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_the_characters_that_are_kept_are_those_that_the_host_tokenises(pieces):
    text = "".join(pieces)
    kept = "".join(text[i] for i in sorted(kept_characters(text)))
    words = "".join(part for part, weight in segments(text) if not (part == "BREAK" and weight == -1))
    assert kept.split() == words.split() or kept.replace(" ", "") == words.replace(" ", "")


WORDS = [
    "red",
    "(blue:1.2)",
    "((old))",
    "[big]",
    "\\(",
    "cat",
    "dog",
    "a",
    "and",
    "with",
    "hat,",
    "~",
    "(",
    "]",
    "BREAK",
    "toy",
]


@settings(max_examples=150)
@given(st.lists(st.sampled_from(WORDS), max_size=14))
def test_any_prompt_is_bound_in_the_rows_of_its_groups_alone(words):
    text, encoder = " ".join(words), Encoder(vectors={"toy": torch.ones(2, 8)})
    rows = rows_of(encoder, text=text)
    bound = bind_chunks(rows, phrases(text.replace("~", "")) if "~" in text else phrases(text), towers(encoder), SUMS)
    if "~" not in text:
        assert torch.allclose(bound.rows, expected(rows, bound), atol=1e-4)
        assert not [line for line in report(bound.read).splitlines() if line.startswith("Nothing bound: tokens")]
