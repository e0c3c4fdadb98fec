"""A preset's file is read strictly: whatever it holds, it is a preset or is refused in one line."""

from __future__ import annotations

import json
import os
import threading
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
    preset_words,
    read_preset,
    speed_preset,
    user_presets,
)
from tome_core.presets.file import MAX_LINE, read_file
from tome_core.speed import SpeedConfig

SUITE = Path(read_file.__code__.co_filename).parent
FLAT = "speed.settings.ratio must be a number, a word, true, false, null, or a list of at most 16 of these"


def speed(**section: Any) -> str:
    return json.dumps({"speed": section})


def test_the_suites_own_are_one_file_a_word_in_the_order_that_is_said_beside_them():
    assert {path.stem for path in SUITE.glob("*.json")} == {*SPEED_PRESETS, *BINDING_PRESETS}
    for path in SUITE.glob("*.json"):
        word, sections = path.stem, read_file(path)
        assert ("speed" in sections, "binding" in sections) == (word in SPEED_PRESETS, word in BINDING_PRESETS)


def test_one_file_may_hold_both_systems(presets_folder: Path):
    own = {"speed": {"settings": {"ratio": 0.25}}, "binding": {"settings": {"norm": "noun"}, "help": "For portraits."}}
    write(presets_folder, json.dumps(own))
    assert speed_preset("mine") == SpeedConfig(ratio=0.25) and binding_preset("mine") == BindingConfig(norm="noun")
    assert [(preset.word, preset.systems, preset.help) for preset in user_presets()] == [
        ("mine", ("speed", "binding"), "For portraits.")
    ]


HOSTILE = {
    "nothing": ("", "must be JSON: Expecting value: line 1 column 1 (char 0)"),
    "no JSON": ("ratio = 0.5", "must be JSON: Expecting value"),
    "code": ("__import__('os').system('true')", "must be JSON: Expecting value"),
    "two values": ("{}{}", "must be JSON: Extra data"),
    "no object": ("[]", "the file must be an object in braces, got list"),
    "no section": ("{}", "must have a section speed or binding"),
    "another section": ('{"speed": {"settings": {}}, "audio": {}}', "the file must have no other keys than speed, bin"),
    "a section of no settings": (speed(help="x"), "speed must have settings"),
    "a section that is a list": ('{"speed": []}', "speed must be an object in braces, got list"),
    "another key": (speed(settings={}, author="x"), "speed must have no other keys than help, settings, families, so"),
    "families of binding": ('{"binding": {"settings": {}, "families": {}}}', "binding must have no other keys than h"),
    "settings that are a word": (speed(settings="fast"), "speed.settings must be an object in braces, got str"),
    "an unknown setting": (speed(settings={"speed": 2}), "speed.settings must have no other keys than ratio, levels, "),
    "a setting of the other system": (speed(settings={"norm": "noun"}), "speed.settings must have no other keys than"),
    "a private field": (speed(settings={"__class__": 1}), "speed.settings must have no other keys than"),
    "a wrong type": (
        speed(settings={"ratio": "half"}),
        "speed.settings: ratio must be a number from 0 to 1, got 'half'",
    ),
    "true for a number": (
        speed(settings={"ratio": True}),
        "speed.settings: ratio must be a number from 0 to 1, got Tr",
    ),
    "an object for a number": (speed(settings={"ratio": {"x": 1}}), FLAT),
    "lists in lists": (speed(settings={"ratio": [[0.5]]}), FLAT),
    "a long list": (speed(settings={"ratio": list(range(17))}), FLAT),
    "out of bounds": (speed(settings={"ratio": 1.5}), "speed.settings: ratio must be a number from 0 to 1, got 1.5"),
    "settings that exclude each other": (
        speed(settings={"parts": ["block"], "kv_ratio": 0.5}),
        "speed.settings: kv_ratio must be None where parts is block or stack, got 0.5",
    ),
    "a family that breaks a rule": (
        speed(settings={}, families={"sdxl": {"levels": [0]}}),
        "speed.families.sdxl: levels must be one or more different whole numbers from 1 to 8, got [0]",
    ),
    "a family that is a word": (speed(settings={}, families={"sdxl": "fast"}), "speed.families.sdxl must be an object"),
    "many families": (
        speed(settings={}, families={str(number): {} for number in range(17)}),
        "speed.families must be at most 16, got 17",
    ),
    "NaN": ('{"speed": {"settings": {"ratio": NaN}}}', "must hold finite numbers, got NaN"),
    "infinity": ('{"speed": {"settings": {"ratio": -Infinity}}}', "must hold finite numbers, got -Infinity"),
    "a float beyond all": (
        '{"speed": {"settings": {"ratio": 1e999}}}',
        "speed.settings: ratio must be a number from 0 ",
    ),
    "a huge number": (
        f'{{"speed": {{"settings": {{"seed": {"9" * 60000}}}}}}}',
        "must hold numbers of at most 20 digi",
    ),
    "a key twice": ('{"speed": {"settings": {"ratio": 0, "ratio": 1}}}', "must name each key once, got 'ratio' twice"),
    "nested deep": ('{"speed":' * 6000, "must not be nested so deep"),
    "nested deep in lists": ("[" * 60000, "must not be nested so deep"),
    "too large": (speed(settings={}, help="x" * 65536), "must be at most 64 kB"),
    "a long help": (speed(settings={}, help="x" * 1001), "speed.help must be one line of at most 1000 letters"),
    "a help of two lines": (speed(settings={}, help="a\nb"), "speed.help must be one line of at most 1000 letters"),
    "a help that steers a terminal": (speed(settings={}, help="\x1b[2J"), "speed.help must be one line"),
    "half of a letter": (speed(settings={}, help="\ud800"), "speed.help must be one line of at most 1000 letters"),
    "a help that is a number": (speed(settings={}, source=1), "speed.source must be one line of at most 1000 letters"),
    "another encoding": ('{"speed": {"help": "é", "settings": {}}}'.encode("latin-1"), "must be text in UTF-8"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\0", "must be text in UTF-8"),
    "zeros": (b"\0" * 100, "must be JSON: Expecting value"),
}


def write(folder: Path, content: str | bytes, name: str = "mine.json") -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line_that_names_file_and_rule(presets_folder: Path, name: str):
    content, rule = HOSTILE[name]
    write(presets_folder, content)
    for system, load in (("speed", speed_preset), ("binding", binding_preset)):
        with pytest.raises(ValueError) as refused:
            load("mine")
        line = str(refused.value)
        assert line.startswith(f"preset file mine.json: {rule}")
        assert "\n" not in line and len(line) <= MAX_LINE
        assert "mine" not in preset_words(system)
    assert [(preset.word, preset.systems, preset.refused) for preset in user_presets()] == [("mine", (), line)]


def make_link(path: Path) -> None:
    outside = path.parent.parent / "outside.json"
    outside.write_text(speed(settings={}))
    path.symlink_to(outside)


def make_loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    "make", [Path.mkdir, getattr(os, "mkfifo", Path.mkdir), make_link, make_loop], ids=lambda make: make.__name__
)
def test_what_is_no_plain_file_is_refused_and_never_waited_for(presets_folder: Path, make: Any):
    presets_folder.mkdir()
    make(presets_folder / "mine.json")
    reader = threading.Thread(target=user_presets, daemon=True)
    reader.start()
    reader.join(20)
    assert not reader.is_alive()
    with pytest.raises(ValueError, match=r"^preset file mine.json: must be a plain file, no link, folder or device$"):
        read_preset("speed", "mine")


def test_a_file_that_an_editor_began_with_a_byte_order_mark_is_read(presets_folder: Path):
    write(presets_folder, b"\xef\xbb\xbf" + speed(settings={"ratio": 0.25}).encode())
    assert speed_preset("mine") == SpeedConfig(ratio=0.25)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
NAMES = st.sampled_from(
    ["speed", "binding", "settings", "families", "help", "source", "ratio", "levels", "parts", "sdxl"]
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4))
FILES = st.fixed_dictionaries({"speed": st.dictionaries(NAMES, VALUES) | VALUES}) | VALUES


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILES)
def test_any_json_is_a_preset_or_is_refused_in_one_line(presets_folder: Path, stored: Any):
    write(presets_folder, json.dumps(stored))
    (found,) = user_presets()
    if found.refused:
        assert found.refused.startswith("preset file mine.json: ") and "\n" not in found.refused
    for system, load in (("speed", speed_preset), ("binding", binding_preset)):
        if system in found.systems:
            load("mine")
