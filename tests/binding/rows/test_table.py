"""The table from characters to rows, against CLIP's tokenizer, which gives the characters of its tokens itself."""

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tome_core.binding import Span, phrases
from tome_core.binding.rows.composite import CHUNK
from tome_core.binding.rows.table import OtherTokensError, read_tokens, row_group, token_bytes
from tome_core.checkpoints.tokenizer import clip_tokenizer

ROOM = 75
WORDS = (
    "red cat a wearing sunglasses, dog's supercalifragilistic Zürich "
    "cafe\u0301 naïve 猫 赤い 🐱 👩‍🚀 🇩🇪 1girl 3.14 (best) "
    "(red:1.3) ((blue)) [small] (cat:0.8), supercalifragilisticexpialidocious x-ray don't I'm _tag_ #art @you $5 50% "
    "e\u0301te\u0301 \u1112\u1161\u11ab ﬁne İstanbul ΣΑΣ straße \u00a0 \t \n ... !? <3 :-) \\( "
    "red red RED"
).split(" ")


@cache
def tokenizer() -> Any:
    return clip_tokenizer()


def tokens_of(text: str) -> tuple[list[bytes], list[tuple[int, int]]]:
    """Return the tokens of a text and, as the tokenizer itself gives them, the characters that they were made from."""
    caught = tokenizer()(text, add_special_tokens=False, return_offsets_mapping=True)
    return [token_bytes(x) for x in tokenizer().convert_ids_to_tokens(caught.input_ids)], caught.offset_mapping


def in_chunks(tokens: list[bytes]) -> list[list[bytes]]:
    return [tokens[i : i + ROOM] for i in range(0, len(tokens), ROOM)]


def check(text: str) -> None:
    """Compare the table of a text with the tokenizer's own."""
    tokens, offsets = tokens_of(text)
    table = read_tokens(text, in_chunks(tokens))
    assert table.rows == tuple(CHUNK * (i // ROOM) + 1 + i % ROOM for i in range(len(tokens)))
    assert table.ends == tuple(CHUNK * i + 1 + len(chunk) for i, chunk in enumerate(in_chunks(tokens)))
    for span, (start, end), token in zip(table.spans, offsets, tokens, strict=True):
        if not token.decode(errors="replace").startswith("\ufffd") and token.decode(errors="replace").isascii():
            assert span == (start, end), (text, token)
        assert span.start <= start < end <= span.end, (text, token)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=110), st.sampled_from([" ", "  ", ", ", "\u3000"]))
def test_it_agrees_with_the_tokenizer_on_300_prompts(words, blank):
    """Sub-words, weights, accents, emoji, repeated words, and prompts of several chunks."""
    check(blank.join(words))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([word for word in WORDS if word.isalnum()]), min_size=1, max_size=110), st.data())
def test_a_word_has_the_rows_that_the_tokenizer_gives_it(words, data):
    chosen = data.draw(st.integers(0, len(words) - 1))
    start = sum(len(word) + 1 for word in words[:chosen])
    end = start + len(words[chosen])
    text = " ".join(words)
    tokens, offsets = tokens_of(text)
    expected = [i for i, (first, last) in enumerate(offsets) if start <= first and last <= end]
    rows = [
        row // CHUNK * ROOM + row % CHUNK - 1 for row in read_tokens(text, in_chunks(tokens)).rows_of(Span(start, end))
    ]
    assert rows == expected != []


@settings(max_examples=150)
@given(st.text(max_size=40))
def test_it_agrees_with_the_tokenizer_on_any_text(text):
    if "<|" in text:
        return
    check(text)


def test_long_prompts_go_on_in_the_next_chunk():
    text = " ".join(["red"] * 80)
    table = read_tokens(text, in_chunks(tokens_of(text)[0]))
    assert (table.rows[74], table.rows[75]) == (75, CHUNK + 1)
    assert table.rows_of(Span(4 * 75, 4 * 75 + 3)) == (CHUNK + 1,)


def test_a_word_of_several_tokens_has_several_rows():
    text = "a supercalifragilistic cat"
    table = read_tokens(text, in_chunks(tokens_of(text)[0]))
    assert table.rows_of(Span(2, 22)) == tuple(range(2, 2 + len(tokens_of(text)[0]) - 2))
    assert len(table.rows_of(Span(2, 22))) > 2


def test_repeated_words_have_rows_of_their_own():
    parse = phrases("a red cat and a red dog and a red cat")
    table = read_tokens(parse.text, [tokens_of(parse.text)[0]])
    groups = [row_group(parse, group, table) for group in parse.groups]
    assert [(group.noun, group.modifiers) for group in groups] == [((3,), (2,)), ((7,), (6,)), ((11,), (10,))]


def test_tokens_that_an_embedding_adds_belong_to_its_word():
    table = read_tokens("a toy cat", [[b"a", b"toy", None, None, b"cat"]])
    assert table.rows_of(Span(2, 5)) == (2, 3, 4)
    assert table.rows_of(Span(6, 9)) == (5,)
    assert table.ends == (6,)


def test_tokens_of_another_text_are_refused():
    with pytest.raises(ValueError, match="tokens must be those of the prompt, got 'dog'"):
        read_tokens("a cat", [[b"a", b"dog"]])
    with pytest.raises(ValueError, match="tokens must be those of the prompt, got 'x'"):
        read_tokens("", [[b"x"]])


def test_a_vector_that_stands_for_no_name_is_not_of_the_text():
    with pytest.raises(OtherTokensError, match="tokens must be those of the prompt, got ''"):
        read_tokens("a cat", [[b"", b"a", b"cat"]])


def test_a_token_of_another_vocabulary_is_refused():
    assert token_bytes("red</w>") == b"red"
    assert token_bytes("ðŁĺĢ</w>").decode() == "😀"
    with pytest.raises(ValueError, match="token must be of CLIP's vocabulary, got '▁red'"):
        token_bytes("▁red")


def groups_of(text: str, room: int, chunks: int = 9):
    parse = phrases(text)
    tokens = tokens_of(parse.text)[0]
    table = read_tokens(parse.text, [tokens[i * room : (i + 1) * room] for i in range(chunks)])
    return [row_group(parse, group, table) for group in parse.groups]


def test_a_group_across_two_chunks_is_refused_with_its_words():
    assert groups_of("a red cat and a blue dog", 4)[1].noun == (77 + 3,)
    with pytest.raises(ValueError, match="group must lie within one chunk of 75 tokens, got 'blue dog' across two"):
        groups_of("a red cat and a blue dog", 6)


@pytest.mark.parametrize(
    ("room", "cut"), [(6, "'blue dog', of which 'dog' is cut off"), (2, "'red cat', of which 'cat' is cut off")]
)
def test_a_group_that_is_cut_off_is_refused_with_its_words(room, cut):
    with pytest.raises(ValueError) as caught:
        groups_of("a red cat and a blue dog", room, chunks=1)
    assert str(caught.value) == f"group must lie within what the model reads, got {cut}: shorten the prompt"
