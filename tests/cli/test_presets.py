"""A word in place of settings: what it comes to, what rules over it, and what is told of it."""

import json

import pytest
from PIL import Image

from tome_core.cli.presets import Choice
from tome_core.errors import UserError
from tome_core.presets import SPEED_PRESETS, read_preset, speed_preset
from tome_core.speed import SpeedConfig

QUICK = ("--size", 64, "--steps", 1)


def test_what_is_named_rules_over_the_preset_and_its_strength():
    config = Choice({"ratio": 0.3, "metric": None}, "fast", 0.5).config("sdxl")
    whole = speed_preset("fast", "sdxl", 0.5)
    assert (config.ratio, config.levels, config.metric) == (0.3, whole.levels, whole.metric)
    assert config.parts == whole.parts != SpeedConfig().parts


def test_without_a_preset_the_defaults_of_the_config_stand():
    assert Choice({"ratio": 0.3, "levels": None}).config("sdxl") == SpeedConfig(ratio=0.3)


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        (Choice({}, None, 0.5), "strength must go with a preset, off, gentle, balanced, fast"),
        (Choice({}, "turbo"), "preset must be one of .*, got 'turbo'"),
        (Choice({}, "fast", 2), "strength must be a number from 0 to 1, got 2"),
        (Choice({"parts": ("block",)}, "balanced"), "beside preset balanced, kv_ratio must be None where parts is"),
    ],
)
def test_what_cannot_be_is_told(choice, sentence):
    with pytest.raises(UserError, match=sentence):
        choice.config()


def test_a_picture_keeps_the_preset_and_the_settings_that_it_came_to(tome, tmp_path):
    told = tome("generate", "a red square", *QUICK, "--preset", "fast", "--strength", 0.5, "--out", "a.png")
    assert (told.code, told.err) == (0, "")
    texts = Image.open(tmp_path / "a.png").text
    assert SpeedConfig(**json.loads(texts["tome_config"])) == speed_preset("fast", "sd1", 0.5)
    settings = json.loads(texts["settings"])
    assert (settings["preset"], settings["strength"]) == ("fast", 0.5)


def test_the_sheet_of_the_demo_has_a_column_a_preset(tome, tmp_path):
    words = ("--preset", "off,gentle,fast", "--strength", 0.5, "--prompts", "a red square")
    assert tome("demo", *QUICK, *words).code == 0
    columns = json.loads((tmp_path / "tome-demo" / "report.json").read_text())["columns"]
    assert [column["name"] for column in columns] == ["untouched", "off x 0.5", "gentle x 0.5", "fast x 0.5"]
    for column, word in zip(columns[1:], ("off", "gentle", "fast"), strict=True):
        assert SpeedConfig(**column["report"]["config"]) == speed_preset(word, "sd1", 0.5)
    assert columns[1]["psnr_db"] is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--preset", "gentle,turbo"), "--preset must be among off, gentle, balanced, fast, got 'turbo'"),
        (("--preset", "fast", "--ratios", "0.5"), "ratios must be left out beside preset"),
        (("--levels", "1", "--strength", 0.5), "strength must go with a preset"),
    ],
)
def test_a_mistake_in_the_demo_is_told_before_any_picture(tome, tmp_path, words, sentence):
    told = tome("demo", *QUICK, *words)
    assert told.code == 2
    assert told.err.startswith(f"tome: error: {sentence}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["generate", "demo"])
def test_help_tells_what_each_preset_is_for(tome, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "2000")  # no sentence is broken
    told = " ".join(tome(command, "--help").out.split())
    for word in SPEED_PRESETS:
        assert f"{word}: {read_preset('speed', word).help.rstrip('.')}" in told


def test_a_benchmark_of_a_preset_stores_its_name_and_what_it_came_to(tome, tmp_path):
    methods = "ours:preset=fast,strength=0.5,ours:preset=fast,ratio=0.25,ours"
    told = tome("bench", "speed", "--size", 64, "--repeats", 1, "--methods", methods, "--json", "a.json")
    assert (told.code, told.err) == (0, "")
    _, half, own, plain = json.loads((tmp_path / "a.json").read_text())["methods"]
    assert [(method["preset"], method["strength"]) for method in (half, own, plain)] == [
        ("fast", 0.5),
        ("fast", None),
        (None, None),
    ]
    assert SpeedConfig(**half["config"]) == speed_preset("fast", "sd1", 0.5)
    assert SpeedConfig(**own["config"]) == Choice({"ratio": 0.25}, "fast").config("sd1")


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        ("ours:preset=turbo", "preset must be one of"),
        ("ours:preset=fast,strength=lots", "strength cannot be 'lots', in 'ours:preset=fast,strength=lots'"),
        ("tomesd:preset=fast", "tomesd has no setting 'preset'"),
    ],
)
def test_a_benchmark_refuses_what_is_no_preset(tome, method, sentence):
    told = tome("bench", "speed", "--size", 64, "--methods", method)
    assert told.code == 2
    assert told.err.startswith(f"tome: error: {sentence}")
