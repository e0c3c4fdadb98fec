"""Ways to bind as they are written, and as the evaluation draws with them."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch

from tome_core.bench.drawing.method import BASELINE
from tome_core.bench.drawing.sampling import Settings
from tome_core.bench.methods.binding import Binding, count_listed, read_case, split_case
from tome_core.bench.methods.merging import Merging
from tome_core.bench.methods.reading import BINDINGS, read_methods
from tome_core.bench.suites import Case, load_suite
from tome_core.binding import BindingConfig
from tome_core.errors import UserError

SETTINGS = Settings(1, 3.0, 64)
PROMPT, BARE = "a red circle and a blue square", "a circle and a square"


def parse_binding(text: str) -> Binding:
    (method,) = read_methods(text, {})
    assert isinstance(method, Binding)
    return method


def case(prompt: str) -> Case:
    return Case((), prompt, 0)


def rows(pipeline: Any, text: str, prompt: str = PROMPT) -> torch.Tensor:
    with torch.no_grad(), parse_binding(text).on(pipeline, [case(prompt)]):
        return pipeline.encode_prompt(prompt, "cpu", 1, False)[0][0]


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ("bind", BindingConfig()),
        ("merge+ets", BindingConfig()),
        ("merge", BindingConfig(ends="off")),
        ("merge:norm=noun", BindingConfig(norm="noun", ends="off")),
        ("bind:preset=gentle", BindingConfig(norm="noun", ends="off")),
        ("bind:preset=gentle,ends=end,strength=0.5", BindingConfig(0.5, norm="noun")),
        ("bind:removed=zero,ends=position", BindingConfig(removed="zero", ends="position")),
        (
            "published",
            BindingConfig(noun_weight=1.1, modifier_weight=1.2, removed="zero", ends="position"),
        ),
        (
            "published:ends=off",
            BindingConfig(noun_weight=1.1, modifier_weight=1.2, removed="zero", ends="off"),
        ),
        ("isolation", None),
    ],
)
def test_a_method_is_what_its_name_and_settings_say(text, config):
    assert parse_binding(text) == Binding(text, config)


def test_a_list_may_hold_both_kinds_of_merging_and_settings_with_commas():
    methods = read_methods("untouched,merge:norm=noun,removed=keep,ours:ratio=0.25,isolation", {"levels": (2,)})
    assert [method.name for method in methods] == ["merge:norm=noun,removed=keep", "ours:ratio=0.25", "isolation"]
    assert [type(method) for method in methods] == [Binding, Merging, Binding]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("glue", "methods must be among untouched, ours, todo, tomesd, bind, merge, merge+ets, ets, published, isolat"),
        ("merge:ratio=1", "merge has no setting 'ratio'; it has strength, noun_weight, modifier_weight, norm, removed"),
        ("bind:preset=loud", "preset must be one of ('paper', 'gentle', 'objects', 'attributes'), got 'loud'"),
        ("merge:preset=paper", "merge has no setting 'preset'; it has strength"),
        ("bind:norm=long", "norm must be one of ('none', 'noun'), got 'long'"),
        ("bind:strength=much", "strength cannot be 'much', in 'bind:strength=much'"),
        ("isolation:norm=noun", "isolation has no settings, got 'isolation:norm=noun'"),
    ],
)
def test_what_cannot_be_read_is_told(text, sentence):
    with pytest.raises(UserError) as told:
        read_methods(text, {})
    assert str(told.value).startswith(sentence)


def test_end_tokens_alone_change_no_other_row(pipeline):
    bound, untouched = rows(pipeline, "ets"), rows(pipeline, "bind:strength=0")
    bare = rows(pipeline, "bind:strength=0", BARE)
    assert torch.allclose(bound[:8], untouched[:8], atol=1e-6)  # start and seven words
    assert torch.equal(bound[8:], bare[6:75])
    assert not torch.allclose(untouched[8:], bound[8:], atol=1e-3)


def test_composites_alone_change_no_end_token(pipeline):
    bound, untouched = rows(pipeline, "merge"), rows(pipeline, "bind:strength=0")
    assert torch.allclose(bound[3], untouched[2] + untouched[3], atol=1e-5)
    assert torch.equal(bound[8:], untouched[8:])


@pytest.mark.parametrize("text", BINDINGS)
def test_a_method_can_be_sent_to_another_process_and_leaves_nothing_on_the_pipeline(pipeline, traces, text):
    untouched = BASELINE.draw(pipeline, [case(PROMPT)], SETTINGS).latents  # diffusers notes on a pipeline what it drew
    before = traces(pipeline.unet), traces(pipeline.text_encoder), sorted(vars(pipeline))
    sent = pickle.loads(pickle.dumps(parse_binding(text)))
    drawn = sent.draw(pipeline, [case(PROMPT)], SETTINGS).latents
    assert not np.array_equal(drawn, untouched)
    assert (traces(pipeline.unet), traces(pipeline.text_encoder), sorted(vars(pipeline))) == before


@pytest.mark.parametrize("text", ["bind:strength=0", "merge+ets", "isolation"])
def test_a_method_without_effect_draws_the_untouched_picture_to_the_bit(pipeline, text):
    cases = [case(PROMPT if "strength" in text else BARE)]
    drawn = parse_binding(text).draw(pipeline, cases, SETTINGS)
    assert np.array_equal(drawn.latents, BASELINE.draw(pipeline, cases, SETTINGS).latents)


@pytest.mark.parametrize("name", ["two-colours", "two-colours-apart", "three-objects"])
def test_each_thing_of_a_suite_goes_with_its_attribute_whatever_the_rules_find(name):
    for each in load_suite(name).cases("held-out", 40, 1):
        parse = read_case(each)
        told = [(parse.words(group.subject), *map(parse.words, group.modifiers)) for group in parse.groups]
        assert sorted(told) == sorted((shape, attribute) for attribute, shape in each.wanted)
        *before, last = (f"a {shape}" for _, shape in each.wanted)
        assert parse.bare == f"{', '.join(before)} and {last}"
        assert split_case(each) == each.phrases


def test_prompts_are_counted_whose_groups_the_suite_lists_because_the_rules_read_others():
    plain = Case((("red", "circle"), ("blue", "square")), PROMPT, 0)
    odd = Case((("blue", "circle"), ("red", "square")), f"{PROMPT}, swapped", 0)
    assert count_listed([plain, odd, odd]) == (1, 2)
    assert count_listed([case(PROMPT)]) == (0, 1)
    assert count_listed(load_suite("two-colours-apart").cases("held-out", 40, 1)) == (0, 40)


def test_spellings_of_one_setting_share_their_pictures_and_other_settings_do_not():
    def identity(text: str) -> object:
        return parse_binding(text).identity

    assert identity("bind") == identity("merge+ets") == identity("bind:norm=none")
    different = [identity(text) for text in ("bind", "merge", "ets", "published", "isolation", "bind:norm=noun")]
    assert all(one not in different[:i] for i, one in enumerate(different))


@pytest.mark.parametrize(
    ("text", "prompts", "notes"),
    [
        ("merge", [PROMPT], []),
        ("merge", [PROMPT, BARE, BARE], ["1 of 2 prompts, which stay as they are, such as 'a circle and a square'"]),
        ("isolation", ["a red circle"], ["no two things of which something is said in 1 of 1 prompts"]),
        ("bind:strength=0", [PROMPT], ["strength 0 binds nothing: its pictures are the untouched ones"]),
    ],
)
def test_a_trial_tells_which_prompts_a_method_leaves_alone(pipeline, text, prompts, notes):
    told = parse_binding(text).try_out(pipeline, [case(prompt) for prompt in prompts], SETTINGS)
    assert len(told) == len(notes)
    assert all(note in sentence for note, sentence in zip(notes, told, strict=True))


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ("very " * 74 + "red circle", "group must lie within what the model reads, got .*, of which 'circle' is cut"),
        ("a ~red ^ ^circle~", "group must have one"),
    ],
)
def test_a_trial_refuses_a_prompt_that_cannot_be_bound(pipeline, prompt, sentence):
    with pytest.raises(UserError, match=sentence):
        parse_binding("merge").try_out(pipeline, [case(PROMPT), case(prompt)], SETTINGS)
