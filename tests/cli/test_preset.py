"""`tome preset`, and the user's words in the commands that take a preset."""

import json

import pytest
from PIL import Image

from tome_core.binding import BindingConfig
from tome_core.presets import binding_preset, read_preset, save_preset, speed_preset, user_presets
from tome_core.speed import SpeedConfig

QUICK = ("--size", 64, "--steps", 1)


def test_no_words_show_the_help(tome):
    assert tome("preset").out == tome("preset", "--help").out != ""
    assert tome("preset").code == 0


def test_settings_are_saved_as_other_commands_take_them(tome, presets_folder):
    told = tome("preset", "save", "My Look", "--ratio", 0.3, "--levels", "1,2", "--norm", "noun", "--about", "Finals.")
    assert told == (0, f"saved {presets_folder / 'my look.json'}\n", "")
    assert speed_preset("my look") == SpeedConfig(ratio=0.3, levels=(1, 2))
    assert binding_preset("my look") == BindingConfig(norm="noun")
    assert read_preset("speed", "my look").help == "Finals."


def test_what_is_named_rules_over_the_presets_to_begin_with(tome):
    begin = ("--speed", "fast", "--speed-strength", 0.5, "--binding", "gentle", "--binding-strength", 0.8)
    assert tome("preset", "save", "mine", *begin, "--levels", 1, "--ends", "end").code == 0
    assert speed_preset("mine") == SpeedConfig(ratio=0.25, parts="block", start_percent=0.3, min_tokens=64)
    assert binding_preset("mine") == BindingConfig(strength=0.8, norm="noun")


@pytest.mark.parametrize(
    ("words", "systems"), [(("--speed", "off"), ("speed",)), (("--binding-strength", 0.5), ("binding",))]
)
def test_a_system_of_which_nothing_is_named_is_left_out(tome, words, systems):
    assert tome("preset", "save", "mine", *words).code == 0
    assert user_presets()[0].systems == systems


def test_list_shows_every_word_and_why_a_file_is_not_offered(tome, presets_folder):
    assert tome("preset", "list").out.endswith(f"Yours are in {presets_folder}, where none is yet\n")
    save_preset("mine", speed=SpeedConfig(), help="For 100 % of it.")
    (presets_folder / "broken.json").write_text("{")
    told = tome("preset", "list")
    assert (told.code, told.err) == (0, "")
    speed, _, binding = told.out.partition("binding:\n")
    assert "\n  fast: For previews" in speed and "\n  mine: For 100 % of it.\n" in speed
    assert "  paper: The paper's own" in binding and "mine" not in binding.partition("Yours")[0]
    assert "\n  not offered: preset file broken.json: must be JSON: " in binding


def test_show_gives_what_is_stored_of_both_systems(tome):
    shown = json.loads(tome("preset", "show", "Gentle").out)
    assert shown.keys() == {"speed", "binding"}
    assert shown["binding"]["settings"] == {"norm": "noun", "ends": "off"}
    assert shown["speed"]["families"]["sdxl"] == {"levels": [1, 2]}
    assert json.loads(tome("preset", "show", "paper").out)["binding"]["settings"] == {}


def test_delete_takes_a_preset_away(tome):
    save_preset("mine", speed=SpeedConfig())
    assert tome("preset", "delete", "Mine") == (0, "deleted mine\n", "")
    assert user_presets() == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("show", "turbo"), "preset must be one of ('off', 'gentle', 'balanced', 'fast', 'there'), got 'turbo'"),
        (("show", "broken"), "preset file broken.json: must be JSON: "),
        (("delete", "turbo"), "word must be one of your own presets, broken, there, got 'turbo'"),
        (("delete", "../there"), "word must be 1 to 40 of a to z"),
        (("save", "mine"), "a preset must have settings of speed, of binding, or of both, got none"),
        (("save", "fast", "--ratio", "0.3"), "word must be none of the suite's own"),
        (("save", "there", "--ratio", "0.3"), "word must be a new one, or replace chosen, got 'there', which "),
        (("save", "a/b", "--ratio", "0.3"), "word must be 1 to 40 of a to z"),
        (("save", "mine", "--ratio", "2"), "ratio must be a number from 0 to 1, got 2.0"),
        (("save", "mine", "--norm", "max"), "norm must be one of ('none', 'noun'), got 'max'"),
        (("save", "mine", "--speed-strength", "0.5"), "strength must go with a preset"),
        (("save", "mine", "--speed", "turbo"), "--speed must be one of ('off', "),
        (("save", "mine", "--binding", "fast"), "--binding must be one of ('paper', "),
        (("save", "mine", "--strength", "0.5"), "unrecognized arguments: --strength 0.5"),
        (("rename", "mine"), "COMMAND must be one of list, show, save, delete, got 'rename'"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(tome, presets_folder, words, sentence):
    save_preset("there", speed=SpeedConfig())
    (presets_folder / "broken.json").write_text("{")
    before = {path.name: path.read_bytes() for path in presets_folder.iterdir()}
    told = tome("preset", *words)
    assert (told.code, told.out) == (2, "")
    assert told.err.startswith(f"tome: error: {sentence}") and told.err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in presets_folder.iterdir()} == before


def test_replace_takes_the_place_of_what_is_there(tome):
    save_preset("there", speed=SpeedConfig(), binding=BindingConfig(norm="noun"))
    assert tome("preset", "save", "there", "--ratio", 0.3, "--replace").code == 0
    assert speed_preset("there").ratio == 0.3 and binding_preset("there") == BindingConfig(norm="noun")


def test_a_word_of_the_users_draws_and_is_kept_with_the_picture(tome, tmp_path):
    save_preset("mine", speed=SpeedConfig(ratio=0.25, levels=(1, 2)))
    told = tome("generate", "a red square", *QUICK, "--preset", "mine", "--out", "a.png")
    assert (told.code, told.err) == (0, "")
    texts = Image.open(tmp_path / "a.png").text
    assert SpeedConfig(**json.loads(texts["tome_config"])) == speed_preset("mine")


def test_a_word_of_the_users_is_a_column_of_the_demo(tome, tmp_path):
    save_preset("mine", speed=SpeedConfig(ratio=0.25))
    assert tome("demo", *QUICK, "--preset", "off,mine", "--prompts", "a red square").code == 0
    columns = json.loads((tmp_path / "tome-demo" / "report.json").read_text())["columns"]
    assert [column["name"] for column in columns] == ["untouched", "off", "mine"]


@pytest.mark.parametrize(("command", "named"), [("generate", True), ("demo", True), ("bind", False)])
def test_help_names_the_users_words_where_they_count_whatever_their_help_says(tome, command, named, monkeypatch):
    save_preset("mine", speed=SpeedConfig(), help="50 % of %(it)s %s")
    told = tome(command, "--help")
    assert told.code == 0
    assert ("yours, see tome preset list: mine" in " ".join(told.out.split())) == named


def test_a_refused_file_is_named_where_its_word_is_given(tome, presets_folder):
    presets_folder.mkdir()
    (presets_folder / "mine.json").write_text("[]")
    told = tome("generate", "x", "--preset", "mine")
    line = "preset file mine.json: the file must be an object in braces, got list (see tome generate --help)"
    assert told == (2, "", f"tome: error: argument --preset: {line}\n")
