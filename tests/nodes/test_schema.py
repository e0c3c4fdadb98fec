"""Every setting of a config is an input of the node, with the config's own bounds, and comes back as it was."""

from __future__ import annotations

import importlib
from dataclasses import fields
from typing import Any

import pytest

from tome_core.speed import SpeedConfig


@pytest.fixture
def schema(nodes: Any) -> Any:
    return importlib.import_module(f"{nodes.__name__}.schema")


def defaults(schema: Any) -> dict[str, Any]:
    return {made.id: made.default for made in schema.config_inputs(SpeedConfig)}


def test_every_field_has_its_inputs_in_its_order(schema: Any):
    names = [made.id for made in schema.config_inputs(SpeedConfig)]
    pair = ["stride_height", "stride_width"]
    expected = [name for field in fields(SpeedConfig) for name in (pair if field.name == "stride" else [field.name])]
    assert names == expected


def test_untouched_inputs_give_the_default_config(schema: Any):
    assert schema.config_from(SpeedConfig, defaults(schema)) == SpeedConfig()


def test_missing_and_wired_inputs_leave_the_default(schema: Any):
    assert schema.config_from(SpeedConfig, {}) == SpeedConfig()
    assert schema.config_from(SpeedConfig, dict.fromkeys(defaults(schema))) == SpeedConfig()


@pytest.mark.parametrize(
    "config",
    [
        SpeedConfig(ratio=0.3, levels=(1, 2), parts=("attention", "mlp"), mlp_ratio=0.0),
        SpeedConfig(stride=(2, 4), seed=5, matching="window", metric="block"),
        SpeedConfig(parts="block", refresh=3, min_tokens=256, start_percent=0.2, end_percent=0.9),
        SpeedConfig(kv_downsample=2, proportional=True),
    ],
)
def test_a_config_comes_back_as_the_inputs_show_it(schema: Any, config: SpeedConfig):
    shown = {"stride_height": config.stride[0], "stride_width": config.stride[1]}
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name == "levels":
            value = ", ".join(map(str, value))
        elif field.name == "parts":
            value = " + ".join(value)
        shown[field.name] = -1 if value is None else value
    assert schema.config_from(SpeedConfig, shown) == config


def test_bounds_and_defaults_are_the_fields_own(schema: Any):
    made = {item.id: item for item in schema.config_inputs(SpeedConfig)}
    ratio = made["ratio"]
    assert (ratio.min, ratio.max, ratio.step, ratio.default, ratio.display_mode) == (0.0, 1.0, 0.05, 0.5, "slider")
    assert (made["mlp_ratio"].min, made["mlp_ratio"].max, made["mlp_ratio"].default) == (-1.0, 1.0, -1.0)
    assert (made["seed"].min, made["seed"].max, made["seed"].default) == (-1, 2**53 - 1, -1)
    assert (made["stride_width"].min, made["stride_width"].max, made["stride_width"].default) == (1, 8, 2)
    assert made["metric"].options == ["estimate", "block", "latent"]
    assert made["proportional"].default is False
    few = made["min_tokens"]
    assert (few.min, few.max, few.step, few.default) == (0, 2**20, 64, 0)


def test_the_parts_are_all_that_the_config_accepts_together(schema: Any):
    parts = next(item for item in schema.config_inputs(SpeedConfig) if item.id == "parts")
    assert parts.options[:5] == ["attention", "cross_attention", "mlp", "block", "stack"]
    assert parts.options[5:] == [
        "attention + cross_attention",
        "attention + mlp",
        "cross_attention + mlp",
        "attention + cross_attention + mlp",
    ]


def test_the_seed_is_not_drawn_anew_by_the_front_end(schema: Any):
    seed = next(item for item in schema.config_inputs(SpeedConfig) if item.id == "seed")
    assert seed.control_after_generate is False


def test_every_input_is_explained_in_words_that_the_widget_can_show(schema: Any):
    for item in schema.config_inputs(SpeedConfig):
        assert item.tooltip and "None" not in item.tooltip, item.id
        assert item.optional, item.id


def test_a_broken_rule_is_told_in_what_the_widget_shows(schema: Any):
    with pytest.raises(ValueError, match=r"^kv_ratio must be -1 "):
        schema.config_from(SpeedConfig, {"kv_ratio": 0.5, "parts": "block"})


@pytest.mark.parametrize("text", ["1-2", "one", "", "1;2"])
def test_levels_that_are_no_numbers_are_refused(schema: Any, text: str):
    with pytest.raises(ValueError, match=r"^levels must be whole numbers with commas between them, got "):
        schema.config_from(SpeedConfig, {"levels": text})


def test_words_that_a_node_is_found_by_wait_for_a_host_that_knows_them(schema: Any, monkeypatch: pytest.MonkeyPatch):
    assert schema.schema(node_id="X", search_aliases=["y"]).node_id == "X"

    class Later:
        def __init__(self, node_id: str, search_aliases: list[str]) -> None:
            self.aliases = search_aliases

    monkeypatch.setattr(schema.io, "Schema", Later)
    assert schema.schema(node_id="X", search_aliases=["y"]).aliases == ["y"]
