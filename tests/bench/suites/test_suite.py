"""The frozen prompts: that they are what their rules make, and that the two parts of a suite have nothing in common."""

from itertools import combinations

import pytest

from tests.bench.suites.rules import frozen, join, make_suites
from tome_core.bench.suites import SPLITS, SUITES, Suite, load_suite, read_prompts
from tome_core.bench.suites.suite import path_of
from tome_core.demo import untaught_words
from tome_core.demo.scene import COLOURS, SHAPES
from training.demo.recipe import CPU
from training.demo.scene import HELD_OUT_PAIRS, held_out


@pytest.fixture(params=SUITES)
def suite(request) -> Suite:
    return load_suite(request.param)


def pairs(suite: Suite, split) -> set[frozenset]:
    """Return the unordered pairs of objects that come together in a part."""
    return {frozenset(pair) for prompt in suite.parts[split] for pair in combinations(prompt.wanted, 2)}


def test_every_file_is_what_its_rule_makes():
    made = make_suites()
    assert tuple(suite.name for suite in made) == SUITES
    for suite in made:
        assert path_of(suite.name).read_text("utf-8") == frozen(suite)
        assert load_suite(suite.name) == suite


def test_no_prompt_comes_twice(suite):
    texts = [prompt.text for split in SPLITS for prompt in suite.parts[split]]
    assert len(set(texts)) == len(texts) > 0


def test_a_prompt_says_what_is_wanted_and_its_objects_differ_in_attribute_and_shape(suite):
    for prompt in (prompt for split in SPLITS for prompt in suite.parts[split]):
        phrases = [suite.phrase.format(attribute=attribute, shape=shape) for attribute, shape in prompt.wanted]
        assert suite.name == "two-colours-apart" or prompt.text == join(phrases)
        attributes, shapes = zip(*prompt.wanted, strict=True)
        assert len(set(attributes)) == len(set(shapes)) == len(prompt.wanted)
        assert set(shapes) <= set(SHAPES)


@pytest.mark.parametrize("name", ["two-colours", "two-colours-apart", "object-binding"])
def test_no_pair_of_objects_is_both_seen_and_held_out(name):
    suite = load_suite(name)
    seen, held = pairs(suite, "seen"), pairs(suite, "held-out")
    assert held and not seen & held


@pytest.mark.parametrize("name", ["two-colours", "two-colours-apart"])
def test_held_out_colour_pairs_are_those_that_the_training_never_saw_in_both_orders(name):
    suite = load_suite(name)
    assert {prompt.wanted for prompt in suite.parts["held-out"]} == {
        order for a, b in HELD_OUT_PAIRS for order in ((a, b), (b, a))
    }
    assert not any(held_out(*prompt.wanted) for prompt in suite.parts["seen"])


def test_three_objects_are_held_out_exactly_where_a_pair_of_them_is():
    suite = load_suite("three-objects")
    for split in SPLITS:
        for prompt in suite.parts[split]:
            assert any(held_out(a, b) for a, b in combinations(prompt.wanted, 2)) == (split == "held-out")


def test_single_objects_are_all_taught_so_none_is_held_out():
    suite = load_suite("single")
    assert {prompt.wanted[0] for prompt in suite.parts["seen"]} == {(c, s) for c in COLOURS for s in SHAPES}
    assert suite.parts["held-out"] == ()


def test_a_suite_is_marked_untaught_exactly_where_its_words_its_order_or_its_number_of_objects_are(suite):
    prompts = suite.parts["seen"]
    order = suite.name == "two-colours-apart" and not any(stage.apart_share for stage in CPU.denoiser)
    beyond = order or any(untaught_words(prompt.text) or len(prompt.wanted) > 2 for prompt in prompts)
    assert bool(suite.untaught) == beyond


def test_the_judge_reads_colours_alone():
    judged = [name for name in SUITES if load_suite(name).judged]
    assert judged == ["single", "two-colours", "two-colours-apart", "three-objects"]


def test_phrases_are_the_prompts_parts_and_shuffling_gives_every_object_anothers_attribute():
    case = load_suite("three-objects").cases("seen", 1, 1)[0]
    (c1, s1), (c2, s2), (c3, s3) = case.wanted
    assert case.phrases == (f"a {c1} {s1}", f"a {c2} {s2}", f"a {c3} {s3}")
    assert case.prompt == f"a {c1} {s1}, a {c2} {s2} and a {c3} {s3}"
    assert case.shuffled == f"a {c2} {s1}, a {c3} {s2} and a {c1} {s3}"


def test_colours_said_apart_follow_both_objects_in_the_same_order():
    case = load_suite("two-colours-apart").cases("held-out", 1, 1)[0]
    (c1, s1), (c2, s2) = case.wanted
    assert case.prompt == f"a {s1} and a {s2} in {c1} and {c2}"
    assert case.shuffled == f"a {s1} and a {s2} in {c2} and {c1}"
    assert case.phrases == (f"a {c1} {s1}", f"a {c2} {s2}")


def test_accessories_are_worn():
    case = load_suite("object-binding").cases("seen", 1, 1)[0]
    (worn, shape), (other, second) = case.wanted
    assert case.prompt == f"a {shape} wearing a {worn} and a {second} wearing a {other}"
    assert case.shuffled == f"a {shape} wearing a {other} and a {second} wearing a {worn}"


def test_cases_come_prompt_by_prompt_with_noise_of_their_own_and_stay_when_more_are_asked_for():
    suite = load_suite("two-colours")
    cases = suite.cases("held-out", 10, 3)
    assert [case.prompt for case in cases[:4]] == [cases[0].prompt] * 3 + [cases[3].prompt]
    assert len({case.seed for case in cases}) == 30
    more = suite.cases("held-out", 20, 4)
    assert set(cases) <= set(more)


def test_what_a_suite_lacks_is_told():
    with pytest.raises(ValueError, match="prompts must be from 1 to 30 in suite single, seen, got 31"):
        load_suite("single").cases("seen", 31, 1)
    with pytest.raises(ValueError, match="suite single has no held-out prompts"):
        load_suite("single").cases("held-out", 1, 1)
    with pytest.raises(ValueError, match=r"suite must be one of single, .*, got 'portraits'"):
        load_suite("portraits")


def test_each_line_is_a_prompt_once_in_the_files_order(tmp_path):
    file = tmp_path / "color_val.txt"
    file.write_bytes(
        "\ufeffa green bench and a blue bowl\r\n\r\n  A bathroom. \na green bench and a blue bowl\n".encode()
    )
    suite = read_prompts(file)
    assert [prompt.text for prompt in suite.parts["held-out"]] == ["a green bench and a blue bowl", "A bathroom."]
    assert (suite.name, suite.judged, suite.binds) == ("color_val.txt", False, False)


def test_cases_have_seeds_of_their_own_and_want_nothing(tmp_path):
    (tmp_path / "a.txt").write_text("a red cat\na blue dog")
    cases = read_prompts(tmp_path / "a.txt").cases("held-out", 2, 2)
    assert [case.prompt for case in cases] == ["a red cat"] * 2 + ["a blue dog"] * 2
    assert len({case.seed for case in cases}) == 4
    assert {(case.wanted, case.phrases, case.shuffled == case.prompt) for case in cases} == {((), (), True)}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\n \n", "prompts file must hold a prompt a line, got none in a.txt"),
        (b"\xff\xfe\x00", "prompts file must be text in UTF-8, got a.txt"),
    ],
)
def test_a_file_without_prompts_is_refused(tmp_path, content, sentence):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError) as told:
        read_prompts(tmp_path / "a.txt")
    assert str(told.value) == sentence
