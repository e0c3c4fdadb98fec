"""The user's presets: where they are, what they may be called, and that saving loses nothing."""

from __future__ import annotations

import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tome_core.binding import BindingConfig
from tome_core.presets import (
    BINDING_PRESETS,
    SPEED_PRESETS,
    binding_preset,
    delete_preset,
    normal_word,
    preset_words,
    read_preset,
    save_preset,
    speed_preset,
    user_folder,
    user_presets,
)
from tome_core.speed import SpeedConfig

OWN = sorted({*SPEED_PRESETS, *BINDING_PRESETS})
SPEED = SpeedConfig(ratio=0.3, levels=(1, 2), parts=("attention", "mlp"), stride=(2, 4), seed=5, kv_ratio=0.6)
BINDING = BindingConfig(strength=0.8, norm="noun", removed="keep")


@pytest.mark.parametrize(
    ("platform", "variables", "folder"),
    [
        ("linux", {}, "{home}/.config/tome-suite/presets"),
        ("linux", {"XDG_CONFIG_HOME": "/xdg"}, "/xdg/tome-suite/presets"),
        ("linux", {"XDG_CONFIG_HOME": "relative"}, "{home}/.config/tome-suite/presets"),
        ("darwin", {"XDG_CONFIG_HOME": "/xdg"}, "{home}/Library/Application Support/tome-suite/presets"),
        ("win32", {"APPDATA": "/roaming"}, "/roaming/tome-suite/presets"),
        ("win32", {}, "{home}/AppData/Roaming/tome-suite/presets"),
        ("linux", {"TOME_PRESETS": "/mine", "XDG_CONFIG_HOME": "/xdg"}, "/mine"),
        ("win32", {"TOME_PRESETS": "~/mine"}, "{home}/mine"),
    ],
)
def test_the_folder_is_the_platforms_or_the_one_that_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, variables: dict[str, str], folder: str
):
    for name in ("TOME_PRESETS", "XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": str(tmp_path), **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert user_folder().as_posix() == folder.format(home=tmp_path.as_posix())


def test_without_a_folder_there_are_the_suites_own_words_and_no_folder_is_made(presets_folder: Path):
    assert preset_words("speed") == SPEED_PRESETS and preset_words("binding") == BINDING_PRESETS
    assert user_presets() == [] and not presets_folder.exists()


def test_what_is_saved_is_offered_at_once_after_the_suites_own_and_comes_back_as_it_was(presets_folder: Path):
    path = save_preset("My Look", speed=SPEED, binding=BINDING, help="For\n  my\xa0finals.")
    save_preset("a first", speed=SpeedConfig())
    assert path == presets_folder / "my look.json"
    assert preset_words("speed") == (*SPEED_PRESETS, "a first", "my look")
    assert preset_words("binding") == (*BINDING_PRESETS, "my look")
    assert speed_preset("my look") == SPEED and binding_preset("my look") == BINDING
    assert speed_preset("a first") == SpeedConfig()
    assert read_preset("binding", " MY LOOK ").help == "For my finals."
    assert sorted(file.name for file in presets_folder.iterdir()) == ["a first.json", "my look.json"], "no part is left"


def test_only_what_differs_from_the_defaults_is_written():
    save_preset("mine", speed=SpeedConfig(ratio=0.25, min_tokens=64), binding=BindingConfig())
    assert read_preset("speed", "mine").settings == {"ratio": 0.25, "min_tokens": 64}
    assert read_preset("binding", "mine").settings == {}


@pytest.mark.parametrize("config", [speed_preset(word, family) for word in SPEED_PRESETS for family in ("sd1", "sdxl")])
def test_each_of_the_suites_own_can_be_saved_under_another_word(config: SpeedConfig):
    save_preset("mine", speed=config)
    assert speed_preset("mine") == speed_preset("mine", "sdxl") == config


@given(st.data())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_settings_of_speed_come_back(data: Any):
    values = {}
    for field in fields(SpeedConfig):
        if data.draw(st.booleans()):
            drawn = {
                "ratio": st.floats(0, 1),
                "levels": st.lists(st.integers(1, 8), min_size=1, max_size=8, unique=True),
            }
            drawn |= {"seed": st.integers(0, 2**63 - 1), "mlp_ratio": st.none() | st.floats(0, 1)}
            drawn |= {"stride": st.tuples(st.integers(1, 8), st.integers(2, 8)), "refresh": st.integers(1, 50)}
            values |= {field.name: data.draw(drawn[field.name])} if field.name in drawn else {}
    save_preset("mine", speed=SpeedConfig(**values), replace=True)
    assert speed_preset("mine") == SpeedConfig(**values)


@pytest.mark.parametrize("word", OWN)
def test_the_suites_own_words_are_refused_and_a_file_of_that_name_changes_nothing(presets_folder: Path, word: str):
    with pytest.raises(ValueError, match=r"^word must be none of the suite's own, off, .*got "):
        save_preset(word.upper(), speed=SPEED, binding=BINDING, replace=True)
    before = {system: preset_words(system) for system in ("speed", "binding")}
    path = save_preset("mine", speed=SPEED, binding=BINDING)
    path.rename(presets_folder / f"{word}.json")
    assert {system: preset_words(system) for system in ("speed", "binding")} == before
    for system, load in (("speed", speed_preset), ("binding", binding_preset)):
        if word in before[system]:
            assert load(word) not in (SPEED, BINDING)
    assert [preset.refused for preset in user_presets()] == [
        f"preset file {word}.json: word must be none of the suite's own"
    ]


BAD_WORDS = ["", " ", "../mine", "..", "a/b", "a\\b", "/etc/passwd", "C:\\mine", "mine.json", "mi\0ne", "a\nb", "-mine"]
BAD_WORDS += [".mine", "_mine", "x" * 41, "größe", "a,b", "{word}", "%s", "~", "CON", "nul", "com1", "lpt9", "*"]


@pytest.mark.parametrize("word", [*BAD_WORDS, None, 5, ["mine"]])
def test_a_bad_word_is_refused_in_one_line_and_touches_nothing(presets_folder: Path, word: Any):
    for act in (lambda: save_preset(word, speed=SPEED), lambda: delete_preset(word), lambda: normal_word(word)):
        with pytest.raises(
            ValueError, match=r"^word must be 1 to 40 of a to z, 0 to 9, space, - and _, .*got "
        ) as told:
            act()
        assert "\n" not in str(told.value)
    with pytest.raises(ValueError, match=r"^preset must be one of \('off', "):
        speed_preset(word)
    assert not presets_folder.exists() and os.listdir(presets_folder.parent) == []


@given(st.text(max_size=50))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_word_leads_out_of_the_folder(presets_folder: Path, word: str):
    try:
        normal = normal_word(word)
    except ValueError:
        return
    assert normal_word(normal) == normal and normal == normal.strip()
    assert (presets_folder / f"{normal}.json").resolve().parent == presets_folder.resolve()


@pytest.mark.parametrize("name", ["Mine.json", "mine .json", "größe.json", "con.json", "mine.JSON", "a\nb.json"])
def test_a_file_whose_name_is_no_word_is_not_offered_and_said_why(presets_folder: Path, name: str):
    path = save_preset("mine", speed=SPEED)
    path.rename(presets_folder / name)
    assert preset_words("speed") == SPEED_PRESETS
    (found,) = user_presets()
    assert found.refused.startswith("preset file ") and ": word must be " in found.refused and "\n" not in found.refused


@pytest.mark.parametrize("name", [".mine.json", "mine.txt", "mine.json~", ".mine.json.1.2.part", "notes"])
def test_other_files_in_the_folder_are_nothing_to_us(presets_folder: Path, name: str):
    presets_folder.mkdir()
    (presets_folder / name).write_text("?")
    assert user_presets() == []


def test_a_name_that_is_no_unicode_is_said_in_letters_that_any_host_can_show(presets_folder: Path):
    presets_folder.mkdir()
    (presets_folder / os.fsdecode(b"caf\xe9.json")).write_text("{}")
    (found,) = user_presets()
    assert "preset file caf .json: " in found.refused and found.word == "caf"
    (found.word + found.refused).encode("utf-8")


def test_a_word_that_is_there_stays_unless_replace_is_chosen(presets_folder: Path):
    save_preset("mine", speed=SPEED)
    with pytest.raises(
        ValueError, match=r"^word must be a new one, or replace chosen, got 'mine', which .*mine\.json "
    ):
        save_preset("MINE", speed=SpeedConfig())
    assert speed_preset("mine") == SPEED
    save_preset("mine", speed=SpeedConfig(), replace=True)
    assert speed_preset("mine") == SpeedConfig()


def test_to_save_the_very_same_once_more_is_no_mistake():
    path = save_preset("mine", speed=SPEED, binding=BINDING, help="x")
    before = path.stat().st_mtime_ns, path.stat().st_ino
    assert save_preset("mine", speed=SPEED, help="x") == save_preset("mine", binding=BINDING, help="x") == path
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


def test_replacing_one_system_keeps_the_other():
    save_preset("mine", binding=BINDING, help="binds")
    save_preset("mine", speed=SPEED, help="speeds", replace=True)
    assert speed_preset("mine") == SPEED and binding_preset("mine") == BINDING
    assert read_preset("binding", "mine").help == "binds" and read_preset("speed", "mine").help == "speeds"


def test_a_refused_file_can_be_replaced_and_deleted(presets_folder: Path):
    presets_folder.mkdir()
    (presets_folder / "mine.json").write_text("{")
    with pytest.raises(ValueError, match=r"^word must be a new one, or replace chosen"):
        save_preset("mine", speed=SPEED)
    save_preset("mine", speed=SPEED, replace=True)
    assert speed_preset("mine") == SPEED
    (presets_folder / "mine.json").write_text("{")
    delete_preset("Mine")
    assert user_presets() == []


def test_a_link_is_replaced_and_deleted_itself_and_never_what_it_leads_to(presets_folder: Path, tmp_path: Path):
    presets_folder.mkdir()
    (tmp_path / "outside.json").write_text("precious")
    for change in (lambda: save_preset("mine", speed=SPEED, replace=True), lambda: delete_preset("mine")):
        (presets_folder / "mine.json").unlink(missing_ok=True)
        (presets_folder / "mine.json").symlink_to(tmp_path / "outside.json")
        change()
        assert (tmp_path / "outside.json").read_text() == "precious"
        assert not (presets_folder / "mine.json").is_symlink()


def test_nothing_to_save_and_nothing_to_delete_are_said():
    with pytest.raises(ValueError, match=r"^a preset must have settings of speed, of binding, or of both, got none$"):
        save_preset("mine")
    with pytest.raises(ValueError, match=r"^word must be one of your own presets, none yet, got 'mine'$"):
        delete_preset("mine")
    with pytest.raises(ValueError, match=r"^word must be one of your own presets, none yet, got 'fast'$"):
        delete_preset("fast")
    with pytest.raises(ValueError, match=r"^help must be one line of at most 1000 letters$"):
        save_preset("mine", speed=SPEED, help="x" * 1001)
    assert user_presets() == []


def test_a_folder_that_cannot_be_read_or_written_is_said_in_one_line(presets_folder: Path):
    presets_folder.write_text("a file")
    assert preset_words("speed") == SPEED_PRESETS
    assert [preset.refused for preset in user_presets()] == [
        f"the folder of presets {presets_folder} cannot be read: Not a directory"
    ]
    with pytest.raises(ValueError, match=r"^cannot write .*mine\.json: "):
        save_preset("mine", speed=SPEED)


def test_a_file_that_goes_while_it_is_read_is_refused_in_one_line(
    presets_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    save_preset("mine", speed=SPEED).unlink()
    monkeypatch.setattr(os.path, "lexists", lambda path: True)
    with pytest.raises(ValueError, match=r"^preset file mine\.json: cannot be read: No such file or directory$"):
        speed_preset("mine")
