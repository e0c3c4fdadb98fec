import dataclasses
import math
from typing import Any

import numpy
import pytest

from tome_core.settings import kinds
from tome_core.speed import SpeedConfig
from tome_core.speed.config import MATCHINGS, config_or_default, without_retired
from tome_core.speed.plans.making import MATCHERS

WRONG = [
    ("ratio", -0.1, "ratio must be a number from 0 to 1, got -0.1"),
    ("ratio", 1.01, "ratio must be a number from 0 to 1, got 1.01"),
    ("ratio", math.nan, "ratio must be a number from 0 to 1, got nan"),
    ("ratio", "0.5", "ratio must be a number from 0 to 1, got '0.5'"),
    ("ratio", True, "ratio must be a number from 0 to 1, got True"),
    ("levels", (), r"levels must be one or more different whole numbers from 1 to 8, got \(\)"),
    ("levels", (0,), "levels must be one or more different whole numbers from 1 to 8"),
    ("levels", (1, 1), "levels must be one or more different whole numbers from 1 to 8"),
    ("levels", (1.0,), "levels must be one or more different whole numbers from 1 to 8"),
    ("levels", "1", "levels must be one or more different whole numbers from 1 to 8"),
    ("parts", (), "parts must be one or more of .*'attention', 'cross_attention', 'mlp'.* each once, got"),
    ("parts", ("atention",), "parts must be one or more of .*, each once, got .*'atention'"),
    ("parts", ("mlp", "mlp"), "parts must be one or more of .*, each once, got"),
    ("stride", (1, 1), "stride must be two whole numbers from 1 to 8, one of them above 1, got"),
    ("stride", (0, 2), "stride must be two whole numbers from 1 to 8"),
    ("stride", (2, 9), "stride must be two whole numbers from 1 to 8"),
    ("stride", 2, "stride must be two whole numbers from 1 to 8"),
    ("stride", (2, 2, 2), "stride must be two whole numbers from 1 to 8"),
    ("matching", "greedy", "matching must be one of .*'bipartite', 'window'.*, got 'greedy'"),
    ("metric", "text", "metric must be one of .*'estimate', 'block', 'latent'.*, got 'text'"),
    ("metric", "first_block", "metric must be one of .*, got 'first_block'"),
    ("metric", "stem", "metric must be one of .*, got 'stem'"),
    ("seed", -1, "seed must be None or a whole number"),
    ("seed", 0.5, "seed must be None or a whole number"),
    ("start_percent", math.nan, "start_percent must be a number from 0 to 1, got nan"),
    ("start_percent", 1.0, "end_percent must be above start_percent, got 1.0"),
    ("end_percent", 1.5, "end_percent must be a number from 0 to 1, got 1.5"),
    ("min_tokens", -1, "min_tokens must be a whole number from 0 to 1048576, got -1"),
    ("min_tokens", 64.0, "min_tokens must be a whole number from 0 to 1048576, got 64.0"),
    ("min_tokens", None, "min_tokens must be a whole number from 0 to 1048576, got None"),
    ("refresh", 0, "refresh must be a whole number from 1 to 50, got 0"),
    ("proportional", "yes", r"proportional must be True or False, got 'yes'"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
def test_a_wrong_setting_is_named_with_its_rule_and_value(name, value, message):
    with pytest.raises(ValueError, match=message):
        SpeedConfig(**{name: value})


def test_the_defaults_merge_half_of_the_self_attention_at_the_finest_level():
    config = SpeedConfig()
    assert (config.ratio, config.levels, config.parts, config.stride) == (0.5, (1,), ("attention",), (2, 2))


def test_only_ratio_zero_is_neutral():
    assert SpeedConfig(ratio=0).is_neutral
    assert not SpeedConfig(ratio=0.01).is_neutral


@pytest.mark.parametrize(("ratio", "tokens", "merged"), [(0, 64, 0), (0.5, 35, 17), (0.1, 9, 0), (1, 9, 9)])
def test_the_ratio_asks_for_whole_tokens_rounded_down(ratio, tokens, merged):
    assert SpeedConfig(ratio=ratio).tokens_to_merge(tokens) == merged


@pytest.mark.parametrize(("stride", "cap"), [((2, 2), 0.75), ((1, 2), 0.5), ((4, 2), 0.875)])
def test_each_cell_of_the_stride_keeps_one_token(stride, cap):
    assert SpeedConfig(stride=stride).max_ratio == cap
    assert not SpeedConfig(stride=stride, ratio=cap).exceeds_max_ratio
    assert SpeedConfig(stride=stride, ratio=cap + 0.01).exceeds_max_ratio


def test_lists_and_single_values_become_tuples_so_that_equal_configs_hash_alike():
    config = SpeedConfig(levels=[1, 2], parts="mlp", stride=[2, 4])
    assert config == SpeedConfig(levels=(1, 2), parts=("mlp",), stride=(2, 4))
    assert hash(config) == hash(SpeedConfig(levels=(1, 2), parts=("mlp",), stride=(2, 4)))


def test_numbers_from_other_libraries_are_stored_as_plain_floats():
    assert type(SpeedConfig(ratio=numpy.float32(0.25)).ratio) is float


def test_every_matching_that_can_be_chosen_is_there():
    assert tuple(MATCHERS) == MATCHINGS


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SpeedConfig().ratio = 0.2  # type: ignore[misc]


@pytest.mark.parametrize("name", ["ratio", "end_percent", "mlp_ratio", "kv_downsample", "refresh", "min_tokens"])
def test_the_bounds_that_a_field_shows_are_those_that_hold(name: str):
    kind: Any = kinds(SpeedConfig)[name]
    SpeedConfig(**{name: kind.most})
    with pytest.raises(ValueError, match=name):
        SpeedConfig(**{name: kind.most + kind.step})


@pytest.mark.parametrize("name", ["levels", "stride"])
def test_each_of_several_numbers_keeps_its_bounds(name: str):
    kind: Any = kinds(SpeedConfig)[name]
    SpeedConfig(**{name: (kind.most, kind.most - 1)})
    with pytest.raises(ValueError, match=name):
        SpeedConfig(**{name: (kind.most + 1, 2)})


APART = [
    ({"parts": ("block", "mlp")}, "parts must be block or stack alone, or some of the others, got"),
    ({"parts": "stack", "kv_ratio": 0.5}, "kv_ratio must be None where parts is block or stack, got 0.5"),
    ({"parts": "block", "mlp_ratio": 0.2}, "mlp_ratio must be None where parts is block or stack, got 0.2"),
    ({"parts": "block", "kv_downsample": 2}, "kv_downsample must be 1 where parts is block or stack, .*, got 2"),
    ({"kv_ratio": 0.5, "kv_downsample": 2}, "kv_downsample must be 1 where .* kv_ratio is given, got 2"),
]


@pytest.mark.parametrize(("settings", "message"), APART)
def test_settings_that_exclude_each_other_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        SpeedConfig(**settings)


def test_a_part_without_a_ratio_of_its_own_takes_the_common_one():
    config = SpeedConfig(ratio=0.5, mlp_ratio=0.25, kv_ratio=0)
    ratios = {part: config.ratio_of(part) for part in ("attention", "cross_attention", "mlp", "keys")}
    assert ratios == {"attention": 0.5, "cross_attention": 0.5, "mlp": 0.25, "keys": 0}


@pytest.mark.parametrize(
    ("settings", "is_neutral"),
    [
        ({}, True),
        ({"kv_ratio": 0.5}, False),
        ({"kv_ratio": 0.0}, True),
        ({"kv_downsample": 2}, False),
        ({"kv_downsample": 2, "parts": "mlp"}, True),
        ({"mlp_ratio": 0.5}, True),
        ({"mlp_ratio": 0.5, "parts": "mlp"}, False),
        ({"parts": "block", "proportional": True}, True),
    ],
)
def test_without_a_common_ratio_only_what_merges_by_its_own_is_not_neutral(settings, is_neutral):
    assert SpeedConfig(ratio=0, **settings).is_neutral == is_neutral


def test_min_tokens_alone_leaves_a_config_as_neutral_as_it_is():
    assert not SpeedConfig(min_tokens=4096).is_neutral
    assert SpeedConfig(min_tokens=4096, ratio=0).is_neutral


@pytest.mark.parametrize(
    ("settings", "kept", "said"),
    [
        ({"ratio": 0.5, "metric": "latent"}, {"ratio": 0.5, "metric": "latent"}, []),
        ({"ratio": 0.5, "guard": True}, {"ratio": 0.5}, ["guard is gone"]),
        ({"guard": False}, {}, []),  # what was asked for is what is done
        ({"metric": "first_block"}, {}, ["metric first_block is gone"]),
        ({"metric": "stem"}, {}, ["metric stem is gone"]),
    ],
)
def test_settings_of_earlier_versions_are_dropped_with_a_sentence(settings, kept, said):
    given = dict(settings)
    found, sentences = without_retired(given)
    assert found == kept
    assert [sentence[: len(start)] for sentence, start in zip(sentences, said, strict=True)] == said
    assert given == settings  # as it was
    SpeedConfig(**kept)


def test_both_retired_settings_are_named():
    kept, sentences = without_retired({"guard": True, "metric": "stem", "ratio": 0.25})
    assert (kept, len(sentences)) == ({"ratio": 0.25}, 2)
    assert SpeedConfig(**kept).metric == "estimate"


def test_no_config_is_the_default_one():
    config = SpeedConfig(ratio=0.25)
    assert config_or_default(None) == SpeedConfig()
    assert config_or_default(config) is config
