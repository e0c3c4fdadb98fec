"""A bound CONDITIONING of a host with ComfyUI's tokens: what its rows are, what it carries, and what stays."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.binding.fake_clip import WIDTHS, new_clip
from tome_core.attention_maps import PHRASES_KEY
from tome_core.binding import BindingConfig, phrases
from tome_core.binding.doors.conditioning import bind_conditioning
from tome_core.binding.rows.table import OtherTokensError, read_tokens

COLOURS = "a red circle and a blue square"
BARE = "a circle and a square"
FAMILIES = (("l",), ("h",), ("g",), ("g", "l"))
PAPER = BindingConfig()
families = pytest.mark.parametrize("names", FAMILIES, ids="".join)


def encode(clip, text):
    return clip.encode(clip.tokenize(text, False))


def rows(conditioning):
    return conditioning[0][0][0]


def groups(bound):
    return [(group.noun, group.modifiers) for group in bound.conditioning[0][1][PHRASES_KEY].groups]


@families
def test_the_rows_are_the_papers(names):
    clip = new_clip(*names)
    own, bare = rows(encode(clip, COLOURS)), rows(encode(clip, BARE))
    bound = bind_conditioning(COLOURS, PAPER, clip)
    found = rows(bound.conditioning)
    assert groups(bound) == [((3,), (2,)), ((7,), (6,))]
    assert torch.allclose(found[[3, 7]], own[[3, 7]] + own[[2, 6]], atol=1e-5)
    assert torch.equal(found[8:], bare[6:75])
    assert torch.equal(found[[2, 6]], found[76].expand(2, -1))
    assert bound.report.splitlines() == ["circle: red", "square: blue"]


def test_each_text_encoder_is_bound_in_its_own_columns():
    clip, config = new_clip("g", "l"), BindingConfig(norm="noun", ends="off")
    own = rows(encode(clip, COLOURS))
    found = rows(bind_conditioning(COLOURS, config, clip).conditioning)
    for columns in (slice(0, WIDTHS["l"]), slice(WIDTHS["l"], None)):
        total = own[2:4, columns].sum(0)
        assert torch.allclose(found[3, columns], total * own[3, columns].norm() / total.norm(), atol=1e-5)


@families
@pytest.mark.parametrize("text", [COLOURS, "a ~red ^^cat~", "~ ~a ^^ cat~", "a (red cat:1.3)", "~10 apples", ""])
def test_strength_0_is_the_hosts_own(names, text):
    clip = new_clip(*names)
    bound, own = bind_conditioning(text, BindingConfig(strength=0), clip), encode(clip, text)
    assert torch.equal(rows(bound.conditioning), rows(own))
    assert torch.equal(bound.conditioning[0][1]["pooled_output"], own[0][1]["pooled_output"])
    assert bound.report.startswith("Strength 0.")


@families
@pytest.mark.parametrize("text", ["a cat and a dog", "", "(masterpiece:1.2), best quality", "~10 apples"])
def test_a_prompt_without_groups_is_the_hosts_own(names, text):
    clip = new_clip(*names)
    bound, own = bind_conditioning(text, PAPER, clip), encode(clip, text)
    assert torch.equal(rows(bound.conditioning), rows(own))
    assert list(bound.conditioning[0][1]) == ["pooled_output"]
    assert bound.report.startswith("No groups found.")


@pytest.mark.parametrize(
    ("marked", "plain"),
    [("a ~red circle~ and a ~blue ^square~", COLOURS), ("a ~cat~ and a dog", "a cat and a dog"), ("a ^ b", "a ^ b")],
)
def test_marks_reach_no_text_encoder_at_strength_0_either(marked, plain):
    clip, neutral = new_clip("l"), BindingConfig(strength=0)
    assert torch.equal(rows(bind_conditioning(marked, neutral, clip).conditioning), rows(encode(clip, plain)))


def test_groups_travel_at_strength_0_too_and_through_markup():
    clip, neutral = new_clip("l"), BindingConfig(strength=0)
    assert groups(bind_conditioning(COLOURS, neutral, clip)) == [((3,), (2,)), ((7,), (6,))]
    assert groups(bind_conditioning("a ~red circle~", neutral, clip)) == [((3,), (2,))]


def test_markup_never_reaches_the_text_encoder():
    clip = new_clip("l")
    marked = bind_conditioning("a ~red circle~ and a ~blue ^square~", PAPER, clip)
    assert torch.equal(rows(marked.conditioning), rows(bind_conditioning(COLOURS, PAPER, clip).conditioning))


@families
def test_rows_are_merged_with_their_weights(names):
    clip = new_clip(*names)
    text = "a (red:1.3) \\(nice\\) circle, and a ((blue)) square"
    own = rows(encode(clip, text))
    bound = bind_conditioning(text, BindingConfig(ends="off", removed="keep"), clip)
    for noun, said in groups(bound):
        total = own[list(noun)].sum(0) + own[list(said)].sum(0)
        assert torch.allclose(rows(bound.conditioning)[noun[0]], total, atol=1e-5)
    assert len(groups(bound)) == 2


@families
def test_each_chunk_ends_as_that_chunk_does_without_attributes(names):
    clip = new_clip(*names)
    first, second = "and. " * 35 + "a red circle. And", "a blue square"
    assert rows(encode(clip, f"{first} {second}")).shape[0] == 154
    bound = bind_conditioning(f"{first} {second}", PAPER, clip)
    assert groups(bound) == [((73,), (72,)), ((80,), (79,))]
    found = rows(bound.conditioning)
    assert torch.allclose(found[76], rows(encode(clip, first.replace("red ", "")))[75], atol=1e-5)
    assert torch.allclose(found[81:154], rows(encode(clip, "a square"))[3:76], atol=1e-5)


def test_vectors_of_an_embedding_move_the_rows_behind_them():
    vectors = {"toy": torch.randn(3, WIDTHS["l"], generator=torch.Generator().manual_seed(0))}
    clip = new_clip("l", vectors=vectors)
    text = "embedding:toy, a red circle (embedding:toy:1.2) embedding:none with a blue square"
    bound = bind_conditioning(text, PAPER, clip)
    assert next(noun for noun, _ in groups(bound)) == (7,)
    own = rows(encode(clip, text))
    noun, said = groups(bound)[0]
    assert torch.allclose(rows(bound.conditioning)[7], own[list(noun)].sum(0) + own[list(said)].sum(0), atol=1e-5)


def test_the_name_of_an_embedding_is_text_where_the_host_has_none():
    text = "embedding:toy, a red circle"
    assert groups(bind_conditioning(text, PAPER, new_clip("l"))) == [((8,), (7,))]


def test_a_group_across_two_chunks_is_left_out_and_named():
    text = "and. " * 36 + "a ~red and very very round circle~ and a ~blue square~"
    bound = bind_conditioning(text, PAPER, new_clip("l"))
    assert "Left unbound: group must lie within one chunk of 75 tokens" in bound.report
    assert bound.conditioning[0][1][PHRASES_KEY].parse.labels == ["square"]


def test_no_empty_list_of_groups_travels_where_every_one_is_across_two_chunks():
    text = "and. " * 36 + "a ~red and very very round circle~"
    for strength in (0, 1):
        bound = bind_conditioning(text, BindingConfig(strength=strength), new_clip("l"))
        assert PHRASES_KEY not in bound.conditioning[0][1]


@pytest.mark.parametrize("names", [("t5xxl",), ("l", "t5xxl"), ("l", "g", "t5xxl")], ids="-".join)
def test_other_text_encoders_get_the_prompt_as_it_is_and_are_named(names):
    clip = new_clip(*(name for name in names if name != "t5xxl"))
    tokens = clip.tokenize
    other = type(clip)(
        lambda text, numbered: {**(tokens(text, numbered) if names != ("t5xxl",) else {}), "t5xxl": [[(1, 1.0, 0)]]},
        lambda tokens: [[torch.zeros(1, 3, 4), {"pooled_output": torch.zeros(1, 4)}]],
        clip.spell,
        clip.widths,
    )
    bound = bind_conditioning(COLOURS, PAPER, other)
    assert "must be CLIP's alone (SD 1.x, SD 2.x, SDXL), got t5xxl" in bound.report
    assert list(bound.conditioning[0][1]) == ["pooled_output"]


def test_a_scheduled_conditioning_is_bound_entry_by_entry():
    clip = new_clip("l")

    def scheduled(tokens):
        own = clip.encode(tokens)[0]
        return [[own[0] * factor, {**own[1], "clip_start_percent": factor}] for factor in (1, 2)]

    bound = bind_conditioning(COLOURS, PAPER, type(clip)(clip.tokenize, scheduled, clip.spell, clip.widths))
    once = rows(bind_conditioning(COLOURS, PAPER, clip).conditioning)
    assert [known["clip_start_percent"] for _, known in bound.conditioning] == [1, 2]
    assert torch.allclose(bound.conditioning[1][0][0], 2 * once, atol=1e-4)


def test_the_hosts_conditioning_stays_as_it_is():
    clip, kept = new_clip("l"), []

    def cached(tokens):
        kept.append(clip.encode(tokens))
        return kept[-1]

    bind_conditioning(COLOURS, PAPER, type(clip)(clip.tokenize, cached, clip.spell, clip.widths))
    assert len(kept) == 2
    assert torch.equal(rows(kept[0]), rows(encode(clip, COLOURS)))
    assert all(list(known) == ["pooled_output"] for own in kept for _, known in own)


def test_a_mistake_in_the_markup_is_refused():
    with pytest.raises(ValueError, match=r"^group must hold a thing"):
        bind_conditioning("a ~cat~", PAPER, new_clip("l"))
    with pytest.raises(ValueError, match=r"^groups must name words of the prompt, got 'dog'"):
        bind_conditioning("a cat", PAPER, new_clip("l"), parser=lambda text: phrases(text, "dog: red"))


def test_a_vector_that_stands_for_no_name_is_not_of_the_text():
    with pytest.raises(OtherTokensError, match="tokens must be those of the prompt, got ''"):
        read_tokens("a cat", [[b"", b"a", b"cat"]])


WORDS = ["red", "(blue:1.2)", "((old))", "\\(", "cat", "dog", "a", "and", "with", "hat,", "~", "(", ")", ":1.3", "Ä"]


@settings(max_examples=500)
@given(st.lists(st.sampled_from(WORDS), max_size=12))
def test_any_prompt_keeps_its_shape_and_says_what_became_of_it(words):
    clip, text = new_clip("l"), " ".join(words)
    try:
        bound = bind_conditioning(text, PAPER, clip)
    except ValueError as mistake:
        assert " must " in str(mistake)
        return
    found = rows(bound.conditioning)
    assert found.shape == (77, WIDTHS["l"]) and bool(found.isfinite().all())
    assert bound.report
