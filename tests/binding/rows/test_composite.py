"""The algebra of composite tokens and end tokens, without any weights."""

import pytest
import torch
from torch import Tensor

from tome_core.binding import BindingConfig, PromptRows, RowGroup, bind_rows
from tome_core.binding.rows.composite import CHUNK, at_noun_length, merge_groups, remove_rows, substitute_ends

WIDTH = 12
# "a cat wearing sunglasses and a dog wearing hat": nine tokens; without attributes "a cat and a dog": five
CATS = (RowGroup((2,), (3, 4)), RowGroup((7,), (8, 9)))
PROMPT = PromptRows(CATS, ends=(10,), bare_ends=(6,))


def random_rows(chunks: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(chunks * CHUNK, WIDTH, generator=torch.Generator().manual_seed(seed))


ROWS, BARE = random_rows(seed=1), random_rows(seed=2)


def test_the_composite_is_the_papers_sum():
    bound = bind_rows(ROWS, BARE, PROMPT, BindingConfig())
    assert torch.allclose(bound[2], ROWS[2] + ROWS[3] + ROWS[4], atol=1e-6)
    assert torch.allclose(bound[7], ROWS[7] + ROWS[8] + ROWS[9], atol=1e-6)


def test_the_weights_of_the_authors_code_give_its_row():
    config = BindingConfig(noun_weight=1.1, modifier_weight=1.2, removed="zero", ends="off")
    rows = RowGroup((2, 3), (4, 5))
    bound = bind_rows(ROWS, BARE, PromptRows((rows,), (10,), (6,)), config)
    assert torch.allclose(bound[2], 1.1 * (ROWS[2] + ROWS[3]) + 1.2 * (ROWS[4] + ROWS[5]), atol=1e-6)
    assert (bound[3:6] == 0).all()
    others = [row for row in range(CHUNK) if row not in (2, 3, 4, 5)]
    assert torch.equal(bound[others], ROWS[others])


def test_a_weight_that_the_host_gave_a_row_scales_its_summand():
    weighted = ROWS.clone()
    weighted[3] *= 1.3
    composite = merge_groups(weighted, CATS)[0]
    assert torch.allclose(composite, ROWS[2] + 1.3 * ROWS[3] + ROWS[4], atol=1e-6)


@pytest.mark.parametrize("removed", ["fill", "zero", "keep"])
@pytest.mark.parametrize("ends", ["end", "position", "off"])
@pytest.mark.parametrize("norm", ["none", "noun"])
def test_every_setting_keeps_77_rows_leaves_words_of_no_group_and_changes_nothing_in_place(removed, ends, norm):
    rows, bare = ROWS.clone(), BARE.clone()
    bound = bind_rows(rows, bare, PROMPT, BindingConfig(removed=removed, ends=ends, norm=norm))
    assert bound.shape == ROWS.shape
    assert torch.equal(bound[[0, 1, 5, 6]], ROWS[[0, 1, 5, 6]])
    assert not torch.equal(bound, ROWS)
    assert torch.equal(rows, ROWS)
    assert torch.equal(bare, BARE)
    gone = [3, 4, 8, 9]
    expected = {"fill": bound[-1].expand(4, -1), "zero": torch.zeros(4, WIDTH), "keep": ROWS[gone]}[removed]
    assert torch.equal(bound[gone], expected)


def test_strength_0_and_no_groups_give_the_very_tensor():
    assert bind_rows(ROWS, BARE, PROMPT, BindingConfig(strength=0)) is ROWS
    assert bind_rows(ROWS, BARE, PromptRows((), (10,), (6,)), BindingConfig()) is ROWS


def test_strength_goes_in_a_straight_line():
    whole = bind_rows(ROWS, BARE, PROMPT, BindingConfig())
    quarter = bind_rows(ROWS, BARE, PROMPT, BindingConfig(strength=0.25))
    assert torch.allclose(quarter, 0.75 * ROWS + 0.25 * whole, atol=1e-6)
    assert torch.equal(quarter[[0, 1, 5, 6]], ROWS[[0, 1, 5, 6]])


def test_a_sum_of_random_rows_is_longer_and_norm_noun_gives_it_the_nouns_length():
    composites = merge_groups(ROWS, CATS)
    lengths = ROWS.norm(dim=-1)
    assert (composites.norm(dim=-1) / lengths[[2, 7]] > 1.2).all()
    as_noun = at_noun_length(composites, ROWS, CATS)
    assert torch.allclose(as_noun.norm(dim=-1), lengths[[2, 7]], atol=1e-5)
    assert torch.allclose(torch.cosine_similarity(as_noun, composites), torch.ones(2), atol=1e-6)
    assert (at_noun_length(torch.zeros(2, WIDTH), ROWS, CATS) == 0).all()
    bound = bind_rows(ROWS, BARE, PROMPT, BindingConfig(norm="noun"))
    assert torch.equal(bound[[2, 7]], as_noun)


def test_end_alignment_begins_with_the_other_prompts_end_token():
    changed = substitute_ends(ROWS, BARE, [10], [6], align="end")
    assert torch.equal(changed[:10], ROWS[:10])
    assert torch.equal(changed[10:73], BARE[6:69])
    assert torch.equal(changed[10], BARE[6])
    assert torch.equal(changed[73:], BARE[69:73])


def test_position_alignment_copies_the_same_places():
    changed = substitute_ends(ROWS, BARE, [10], [6], align="position")
    assert torch.equal(changed[:10], ROWS[:10])
    assert torch.equal(changed[10:], BARE[10:])


def test_a_longer_other_prompt_repeats_its_last_row():
    changed = substitute_ends(ROWS, BARE, [70], [74], align="end")
    assert torch.equal(changed[70:73], BARE[74:77])
    assert torch.equal(changed[73:], BARE[76:77].expand(4, -1))


@pytest.mark.parametrize("align", ["end", "position"])
def test_substitution_is_idempotent_and_nothing_where_the_prompts_are_the_same(align):
    once = substitute_ends(ROWS, BARE, [10], [6], align=align)
    assert torch.equal(substitute_ends(once, BARE, [10], [6], align=align), once)
    assert torch.equal(substitute_ends(ROWS, ROWS, [10], [10], align=align), ROWS)


def test_each_chunk_has_its_own_end_and_its_own_padding():
    rows, bare = random_rows(2, seed=6), random_rows(2, seed=7)
    groups = (RowGroup((2,), (1,)), RowGroup((CHUNK + 3,), (CHUNK + 1, CHUNK + 2)))
    bound = bind_rows(rows, bare, PromptRows(groups, (76, CHUNK + 4), (75, CHUNK + 2)), BindingConfig())
    assert torch.equal(bound[76], bare[75])
    assert torch.equal(bound[CHUNK + 4], bare[CHUNK + 2])
    assert torch.equal(bound[-3:], bare[-5:-2])
    assert torch.equal(bound[1], bound[76])
    assert torch.equal(bound[CHUNK + 1], bound[-1])
    assert torch.equal(bound[CHUNK], rows[CHUNK])
    assert torch.allclose(bound[CHUNK + 3], rows[CHUNK + 1 : CHUNK + 4].sum(0), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_added_in_float32_and_kept(dtype):
    rows, bare = ROWS.to(dtype), BARE.to(dtype)
    for config in (BindingConfig(), BindingConfig(strength=0.5, norm="noun")):
        bound = bind_rows(rows, bare, PROMPT, config)
        assert bound.dtype == dtype
        assert torch.equal(bound, bind_rows(rows.float(), bare.float(), PROMPT, config).to(dtype))


def test_no_removed_rows_give_the_very_tensor():
    assert remove_rows(ROWS, [], "fill") is ROWS


def test_the_other_prompts_rows_are_not_read_where_ends_are_off():
    config = BindingConfig(ends="off")
    bound = bind_rows(ROWS, None, PROMPT, config)
    assert torch.equal(bind_rows(ROWS, BARE[:3, :5], PROMPT, config), bound)
    assert torch.equal(bound[10:], ROWS[10:])


@pytest.mark.parametrize(
    ("rows", "bare", "prompt", "sentence"),
    [
        (ROWS[None], BARE, PROMPT, "rows must be of shape [chunks * 77, D], got [1, 77, 12]"),
        (ROWS[:76], BARE, PROMPT, "rows must be of shape [chunks * 77, D], got [76, 12]"),
        (ROWS, BARE[:, :5], PROMPT, "bare_rows must be of shape [77, 12], got [77, 5]"),
        (ROWS, None, PROMPT, "bare_rows must be of shape [77, 12], got None"),
        (
            ROWS,
            BARE,
            PromptRows(CATS, (10, 20), (6,)),
            "prompt must name an end of each of 1 chunks, got (10, 20), (6,)",
        ),
        (
            ROWS,
            BARE,
            PromptRows((RowGroup((2,), (2,)),), (10,), (6,)),
            "prompt must name each row once, from 0 to 76, got",
        ),
        (ROWS, BARE, PromptRows((RowGroup((2,), (77,)),), (10,), (6,)), "prompt must name each row once, from 0 to 76"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows, bare, prompt, sentence):
    with pytest.raises(ValueError) as caught:
        bind_rows(rows, bare, prompt, BindingConfig())
    assert str(caught.value).startswith(sentence)
