"""Terminal arguments from the fields of a config, and a word in place of them."""

import json
from dataclasses import fields

import pytest
from PIL import Image

from tome_core.cli.settings import Choice
from tome_core.errors import UserError
from tome_core.presets import SPEED_PRESETS, read_preset, speed_preset
from tome_core.settings import Switch, kind_of, kinds
from tome_core.speed import SpeedConfig

QUICK = ("--size", 64, "--steps", 1)
WRITTEN = {
    "ratio": ("0.3", 0.3),
    "levels": ("1+2", (1, 2)),
    "parts": ("attention,cross_attention", ("attention", "cross_attention")),
    "stride": ("4x2", (4, 2)),
    "matching": ("window", "window"),
    "metric": ("latent", "latent"),
    "seed": ("7", 7),
    "start_percent": ("0.1", 0.1),
    "end_percent": (".9", 0.9),
    "cross_attention_ratio": ("0.2", 0.2),
    "mlp_ratio": ("0", 0.0),
    "kv_ratio": ("0.75", 0.75),
    "kv_downsample": ("1", 1),
    "proportional": ("on", True),
    "refresh": ("5", 5),
    "min_tokens": ("256", 256),
}


def test_every_field_can_be_written_as_a_user_would():
    assert set(WRITTEN) == set(kinds(SpeedConfig))
    values = {name: kinds(SpeedConfig)[name].parse(text) for name, (text, _) in WRITTEN.items()}
    assert Choice(values).config() == SpeedConfig(**{name: value for name, (_, value) in WRITTEN.items()})


@pytest.mark.parametrize(
    "setting", [field for field in fields(SpeedConfig) if field.name != "seed"], ids=lambda f: f.name
)
def test_the_help_of_a_field_is_the_help_of_its_argument(tome, setting, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")  # no word is broken at a hyphen
    told = " ".join(tome("generate", "--help").out.split())
    kind = kind_of(setting)
    assert f"--{setting.name.replace('_', '-')} {'off|on' if isinstance(kind, Switch) else ''}" in told
    assert f"{kind.help} {kind.bounds} Default {kind.format(setting.default)}." in told


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
        (("--preset", "gentle,turbo"), "--preset must be one of ('off', 'gentle', 'balanced', 'fast'), got 'turbo'"),
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
