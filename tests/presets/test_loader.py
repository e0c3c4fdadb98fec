"""Presets as artists choose them: what each word promises, and what strength and family do to it."""

import json
import warnings
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from tome_core.presets import SPEED_PRESETS, read_preset, speed_preset
from tome_core.speed import SpeedConfig

FAMILIES = (None, "sd1", "sd2", "sdxl", "sdxl_refiner")
RATIOS = [field.name for field in fields(SpeedConfig) if field.name.endswith("ratio")]


def test_the_words_go_from_what_changes_least_to_what_saves_most():
    assert SPEED_PRESETS == ("off", "gentle", "balanced", "fast")


@pytest.mark.parametrize("word", SPEED_PRESETS)
def test_a_preset_says_in_one_sentence_what_it_is_for_and_on_what_that_rests(word):
    preset = read_preset("speed", word)
    assert preset.help.endswith(".")
    assert ". " not in preset.help
    assert len(preset.help) < 200
    assert preset.source


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("word", SPEED_PRESETS)
def test_a_preset_names_fields_of_the_config_and_no_default(word, family):
    preset = read_preset("speed", word)
    named = {**preset.settings, **preset.families.get(family or "", {})}
    config = speed_preset(word, family)
    stored = json.loads(json.dumps(asdict(config)))  # tuples as lists
    assert {name: stored[name] for name in named} == named
    default = SpeedConfig()
    assert all(getattr(config, name) == getattr(default, name) for name in asdict(config) if name not in named)


def test_off_leaves_the_model_untouched_and_the_others_do_not():
    assert [word for word in SPEED_PRESETS if speed_preset(word).is_neutral] == ["off"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("word", SPEED_PRESETS)
def test_strength_0_is_neutral(word, family):
    assert speed_preset(word, family, 0).is_neutral


@pytest.mark.parametrize("word", SPEED_PRESETS)
def test_strength_scales_every_ratio_and_nothing_else(word):
    whole, half = asdict(speed_preset(word, "sdxl")), asdict(speed_preset(word, "sdxl", 0.5))
    for name, value in whole.items():
        assert half[name] == (value if name not in RATIOS or value is None else value / 2)


def test_only_a_level_that_every_model_has_is_named_without_a_family():
    assert {speed_preset(word).levels for word in SPEED_PRESETS if word != "fast"} == {(1,)}
    assert speed_preset("fast").levels == (1, 2)


@pytest.mark.parametrize("family", ["sdxl", "sdxl_refiner"])
@pytest.mark.parametrize("word", [word for word in SPEED_PRESETS if word != "off"])
def test_on_sdxl_both_levels_merge(word, family):
    """Level 1 alone holds a quarter of its work: no ratio there gains more than a few percent."""
    assert speed_preset(word, family).levels == (1, 2)


def test_every_preset_that_merges_leaves_levels_of_fewer_than_64_tokens_untouched():
    assert [speed_preset(word).min_tokens for word in SPEED_PRESETS] == [0, 64, 64, 64]


def write_preset(folder: Path, settings: dict[str, Any]) -> None:
    folder.mkdir()
    (folder / "mine.json").write_text(json.dumps({"speed": {"settings": settings}}), encoding="utf-8")


def test_a_preset_with_settings_that_are_gone_loads_and_says_what_replaces_them(presets_folder: Path):
    write_preset(presets_folder, {"ratio": 0.25, "guard": True, "metric": "stem"})
    with pytest.warns(UserWarning) as said:
        assert speed_preset("mine") == SpeedConfig(ratio=0.25)
    assert [str(warning.message).split(":")[0] for warning in said] == ["preset mine"] * 2
    assert ["guard is gone" in str(said[0].message), "metric stem is gone" in str(said[1].message)] == [True, True]
    assert {warning.filename for warning in said} == {__file__}, "it points at whoever asked for the preset"


def test_a_preset_that_had_the_guard_off_loads_without_a_word(presets_folder: Path):
    write_preset(presets_folder, {"ratio": 0.25, "guard": False})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert speed_preset("mine") == SpeedConfig(ratio=0.25)


@pytest.mark.parametrize("settings", [{}, {"kv_ratio": 0.75}, {"kv_downsample": 2}, {"kv_ratio": None, "ratio": 0.25}])
def test_strength_holds_for_ratios_that_a_users_preset_leaves_at_their_defaults(
    presets_folder: Path, settings: dict[str, Any]
):
    write_preset(presets_folder, settings)
    whole, half = speed_preset("mine"), speed_preset("mine", strength=0.5)
    assert whole == SpeedConfig(**settings) and half.ratio == whole.ratio / 2
    assert half.kv_ratio == (None if whole.kv_ratio is None else whole.kv_ratio / 2)
    assert speed_preset("mine", strength=0).is_neutral


def test_a_preset_may_differ_by_family(presets_folder: Path):
    presets_folder.mkdir()
    section = {"settings": {"ratio": 0.25}, "families": {"sdxl": {"levels": [1, 2]}}}
    (presets_folder / "mine.json").write_text(json.dumps({"speed": section}), encoding="utf-8")
    assert speed_preset("mine", "sd1") == speed_preset("mine") == SpeedConfig(ratio=0.25)
    assert speed_preset("mine", "sdxl") == SpeedConfig(ratio=0.25, levels=(1, 2))


def test_an_unknown_family_takes_what_every_model_can_do():
    assert speed_preset("balanced", "kandinsky") == speed_preset("balanced")


def test_a_word_that_is_no_preset_is_refused():
    with pytest.raises(ValueError, match=r"preset must be one of \('off', .*\), got 'turbo'"):
        speed_preset("turbo")


@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan"), True, "half", None])
def test_a_strength_out_of_bounds_is_refused(strength):
    with pytest.raises(ValueError, match=r"strength must be a number from 0 to 1, got "):
        speed_preset("fast", None, strength)
