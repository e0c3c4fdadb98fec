"""A bound CONDITIONING of a host with ComfyUI's tokens: what its rows are, what it carries, and what stays."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.binding.fake_clip import WIDTHS, new_clip
from tome_core.attention_maps import PHRASES_KEY
from tome_core.binding import BindingConfig, BoundPrompt, phrases
from tome_core.binding.doors.conditioning import bind_conditioning, find_config

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


def test_pooled_vectors_stay_and_the_report_names_each_group():
    clip = new_clip("g", "l")
    bound, own = bind_conditioning(COLOURS, PAPER, clip), encode(clip, COLOURS)
    assert torch.equal(bound.conditioning[0][1]["pooled_output"], own[0][1]["pooled_output"])
    assert bound.report == "circle: red\nsquare: blue"
    assert bind_conditioning("a (red cat:1.3)", BindingConfig(strength=0), clip).report.startswith("Strength 0.")


@families
@pytest.mark.parametrize("text", ["a cat and a dog", "(masterpiece:1.2), best quality"])
def test_a_prompt_without_groups_carries_none_and_the_report_says_what_one_is(names, text):
    clip = new_clip(*names)
    bound = bind_conditioning(text, PAPER, clip)
    assert torch.equal(rows(bound.conditioning), rows(encode(clip, text)))
    assert list(bound.conditioning[0][1]) == ["pooled_output"]
    assert bound.report.startswith("No groups found. A group is a thing with words that describe it")


def test_groups_travel_at_strength_0_too_and_through_markup():
    clip, neutral = new_clip("l"), BindingConfig(strength=0)
    assert groups(bind_conditioning(COLOURS, neutral, clip)) == [((3,), (2,)), ((7,), (6,))]
    assert groups(bind_conditioning("a ~red circle~", neutral, clip)) == [((3,), (2,))]


@families
def test_rows_are_merged_with_their_weights(names):
    clip = new_clip(*names)
    text = "a (red:1.3) \\(nice\\) circle, and a ((blue)) square"
    own = rows(encode(clip, text))
    bound = bind_conditioning(text, BindingConfig(ends="off", removed="keep"), clip)
    for noun, modifiers in groups(bound):
        total = own[list(noun)].sum(0) + own[list(modifiers)].sum(0)
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
    noun, modifiers = groups(bound)[0]
    assert torch.allclose(rows(bound.conditioning)[7], own[list(noun)].sum(0) + own[list(modifiers)].sum(0), atol=1e-5)


def test_the_name_of_an_embedding_is_text_where_the_host_has_none():
    text = "embedding:toy, a red circle"
    assert groups(bind_conditioning(text, PAPER, new_clip("l"))) == [((8,), (7,))]


def test_a_group_across_two_chunks_is_left_out_and_named():
    text = "and. " * 36 + "a ~red and very very round circle~ and a ~blue square~"
    bound = bind_conditioning(text, PAPER, new_clip("l"))
    assert bound.report.startswith("square: blue\nLeft unbound: group must lie within one chunk of 75 tokens, got")
    assert bound.conditioning[0][1][PHRASES_KEY].parse.labels == ["square"]


def test_no_empty_list_of_groups_travels_where_every_one_is_across_two_chunks():
    text = "and. " * 36 + "a ~red and very very round circle~"
    for strength in (0, 1):
        bound = bind_conditioning(text, BindingConfig(strength=strength), new_clip("l"))
        assert PHRASES_KEY not in bound.conditioning[0][1]


def test_how_a_prompt_was_bound_travels_with_it_through_a_combination():
    clip, config = new_clip("l"), BindingConfig(strength=0.5, norm="noun")
    bound = bind_conditioning("a red circle", config, clip).conditioning
    plain = bind_conditioning("a circle", PAPER, clip).conditioning
    assert find_config(bound) == find_config([*plain, *bound]) == config
    assert find_config(plain) is find_config([]) is None


def test_a_prompt_of_deep_brackets_is_encoded_as_the_host_does():
    clip, text = new_clip("l"), "(" * 101 + "a red circle" + ")" * 101
    bound = bind_conditioning(text, PAPER, clip)
    assert torch.equal(rows(bound.conditioning), rows(encode(clip, text)))
    assert bound.report.startswith("Nothing bound: brackets must be at most 100 inside each other")


def test_what_is_unbound_has_no_phrases():
    assert BoundPrompt(phrases(COLOURS), ()).phrases == ()


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


WORDS = ["red", "(blue:1.2)", "((old))", "\\(", "cat", "dog", "a", "and", "with", "hat,", "~", "(", ")", ":1.3", "Ä"]


@settings(max_examples=150)
@given(st.lists(st.sampled_from(WORDS), max_size=12))
def test_any_prompt_is_bound_in_the_rows_of_its_groups_alone_and_the_report_names_each(words):
    clip, text = new_clip("l"), " ".join(words)
    try:
        bound = bind_conditioning(text, BindingConfig(removed="keep", ends="off"), clip)
    except ValueError as mistake:
        assert " must " in str(mistake)
        return
    prompt = bound.conditioning[0][1].get(PHRASES_KEY)
    own = expected = rows(encode(clip, text if prompt is None else prompt.parse.text))
    for group in () if prompt is None else prompt.groups:
        expected = expected.clone()
        expected[group.noun[0]] = own[list(group.rows)].sum(0)
    if prompt is not None or "~" not in text:
        assert torch.allclose(rows(bound.conditioning), expected, atol=1e-4)
    lines = bound.report.splitlines()
    assert [line.split(":")[0] for line in lines][: len(prompt.parse.labels) if prompt else 0] == (
        prompt.parse.labels if prompt else []
    )
    assert prompt is not None or lines[-1] == "The prompt is encoded as CLIP Text Encode does."
