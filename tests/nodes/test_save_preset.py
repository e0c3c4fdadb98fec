"""The user's presets in ComfyUI: saved by one node, offered and read by the others, without a restart."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.nodes.test_binding import PROMPT, Clip, rows
from tests.nodes.test_speed import Model
from tome_core.binding import BindingConfig
from tome_core.binding.doors import conditioning as binding_door
from tome_core.presets import binding_preset, preset_words, read_preset, save_preset, speed_preset
from tome_core.speed import SpeedConfig
from tome_core.speed.doors import patcher

MERGES = SpeedConfig(ratio=0.3, levels=(1, 2), min_tokens=64)


class Patched(Model):
    """A model as `patch_speed` leaves it, as far as its config goes."""

    def __init__(self, config: SpeedConfig | None = None) -> None:
        super().__init__()
        self.config = config


@pytest.fixture
def node(nodes: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(patcher, "find_config", lambda model: model.config)
    return importlib.import_module(f"{nodes.__name__}.save_preset").ToMeSavePreset


@pytest.fixture
def speed(nodes: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(patcher, "find_family", lambda model: "sdxl")
    return importlib.import_module(f"{nodes.__name__}.speed").ToMeSpeed


@pytest.fixture
def bind(nodes: Any) -> Any:
    return importlib.import_module(f"{nodes.__name__}.binding").ToMeBindPrompt


def preset_input(node: Any) -> Any:
    return next(made for made in node.define_schema().inputs if made.id == "preset")


def test_what_both_nodes_did_is_saved_under_one_word_and_the_node_says_where(
    node: Any, bind: Any, presets_folder: Path
):
    conditioning = bind.execute(Clip(), PROMPT, "gentle", 0.5).args[0]
    answer = node.execute("My Look", Patched(MERGES), conditioning, help="For finals.")
    path = presets_folder / "my look.json"
    first, second = answer.ui["text"][0].splitlines()
    assert first == f"Saved as my look in {path}" and path.exists() and answer.args == ()
    assert second.startswith("ToMe Speed and ToMe Bind Prompt offer it after you press R")
    assert speed_preset("my look") == MERGES
    assert binding_preset("my look") == BindingConfig(strength=0.5, norm="noun", ends="off")
    assert read_preset("speed", "my look").help == "For finals."


def test_a_saved_word_is_offered_and_taken_without_a_restart(node: Any, speed: Any, bind: Any):
    assert "mine" in speed.validate_inputs(preset="mine")
    before = preset_input(speed).options
    node.execute("mine", Patched(MERGES))
    assert preset_input(speed).options == [*before, "mine"] and "mine" not in preset_input(bind).options
    assert speed.validate_inputs(preset="mine") is True


def test_one_system_alone_is_offered_where_it_counts(node: Any, speed: Any, bind: Any):
    conditioning = bind.execute(Clip(), PROMPT, "paper", 1.0).args[0]
    answer = node.execute("mine", conditioning=conditioning)
    assert "\nToMe Bind Prompt offers it after" in answer.ui["text"][0]
    assert preset_words("speed")[-1] == "fast" and preset_input(bind).options[-1] == "mine"
    same = bind.execute(Clip(), PROMPT, "mine", 1.0)
    assert rows(same).equal(conditioning[0][0])


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({}, "connect model to a ToMe Speed or ToMe Speed (Advanced), conditioning to a ToMe Bind Prompt, or both"),
        ({"model": Patched()}, "model must come from a ToMe Speed that merges, got one without merging"),
        ({"model": Patched(), "conditioning": [[None, {}]]}, "model must come from a ToMe Speed that merges"),
        ({"conditioning": [[None, {}]]}, "conditioning must come from a ToMe Bind Prompt that bound something"),
        ({"model": Patched(MERGES), "name": "../x"}, "word must be 1 to 40 of a to z"),
        ({"model": Patched(MERGES), "name": "fast"}, "word must be none of the suite's own"),
    ],
)
def test_a_mistake_saves_nothing_and_is_said_on_the_node(node: Any, presets_folder: Path, inputs: Any, said: str):
    answer = node.execute(**{"name": "mine", **inputs})
    assert answer.ui["text"][0].startswith(f"Nothing saved: {said}")
    assert not presets_folder.exists() and answer.block_execution is None


def test_a_preset_that_is_there_stays_until_replace_is_chosen(node: Any):
    node.execute("mine", Patched(MERGES))
    said = node.execute("mine", Patched(SpeedConfig())).ui["text"][0]
    assert said.startswith("Nothing saved: word must be a new one, or replace chosen, got 'mine'")
    assert node.execute("mine", Patched(MERGES)).ui["text"][0].startswith("Saved as mine"), "it is there as it is"
    node.execute("mine", Patched(SpeedConfig()), replace=True)
    assert speed_preset("mine") == SpeedConfig()


def test_a_bad_name_and_a_lonely_node_stop_the_node_before_work(node: Any):
    assert node.validate_inputs(name="mine").startswith("connect model to a ToMe Speed")
    assert node.validate_inputs(name="a/b", model=None).startswith("word must be 1 to 40")
    assert node.validate_inputs(name="My Look", conditioning=None, replace=False) is True
    assert node.validate_inputs(name=None, model=None) is True, "what comes by wire is not known yet"


def test_the_node_runs_again_when_its_file_was_deleted(node: Any):
    path = save_preset("mine", speed=MERGES)
    there = node.fingerprint_inputs(name="Mine", help="", replace=False)
    path.unlink()
    assert node.fingerprint_inputs(name="Mine", help="", replace=False) != there
    assert node.fingerprint_inputs(name=None) == node.fingerprint_inputs(name="../x")


def test_a_node_runs_again_when_the_file_of_its_preset_has_changed(speed: Any, bind: Any):
    for node, system in ((speed, "speed"), (bind, "binding")):
        config = {"speed": MERGES, "binding": BindingConfig(norm="noun")}[system]
        other = {"speed": SpeedConfig(), "binding": BindingConfig()}[system]
        path = save_preset("mine", **{system: config})
        prints = [node.fingerprint_inputs(preset="mine", strength=1.0)]
        save_preset("mine", **{system: other}, replace=True)
        prints.append(node.fingerprint_inputs(preset="mine", strength=1.0))
        path.write_text("{")
        prints.append(node.fingerprint_inputs(preset="mine", strength=1.0))
        path.unlink()
        prints.append(node.fingerprint_inputs(preset="mine", strength=1.0))
        assert len(set(prints)) == 4
        assert node.fingerprint_inputs(preset="gentle") == node.fingerprint_inputs(preset="gentle")
        assert node.fingerprint_inputs() == node.fingerprint_inputs(preset=None)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "preset must be one of ("), ("{", "preset file mine.json: must be JSON: ")],
)
def test_a_word_whose_file_is_gone_or_broken_stops_the_prompt_and_by_wire_loses_no_image(
    speed: Any, bind: Any, presets_folder: Path, content: str | None, said: str
):
    presets_folder.mkdir()
    if content is not None:
        (presets_folder / "mine.json").write_text(content)
    assert speed.validate_inputs(preset="mine").startswith(said)
    assert bind.validate_inputs(text=PROMPT, preset="mine").startswith(said)
    model, clip = Model(), Clip()
    passed, text = speed.execute(model, "mine", 1.0).args
    assert passed is model and text.startswith(f"The model passes through as it came: {said}") and "\n" not in text
    answer = bind.execute(clip, PROMPT, "mine", 1.0)
    assert rows(answer).equal(clip.encode_from_tokens_scheduled(clip.tokenize(PROMPT))[0][0])
    assert answer.args[1].startswith(f"Nothing bound: {said}")


def test_what_a_node_says_of_its_preset_does_not_depend_on_the_users_files(speed: Any):
    tooltip = preset_input(speed).tooltip
    save_preset("mine", speed=MERGES, help="Mine alone.")
    assert preset_input(speed).tooltip == tooltip


def test_the_same_file_gives_the_same_configs_in_every_host(
    speed: Any, bind: Any, presets_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    from tome_core.cli import bind as cli_bind
    from tome_core.cli import generate
    from tome_core.cli.entry import parse
    from tome_core.cli.settings import Choice, new_binding_config
    from tome_core.settings import kinds

    own = {"settings": {"ratio": 0.4, "kv_ratio": 0.6}, "families": {"sdxl": {"levels": [1, 2]}}}
    both = {"speed": own, "binding": {"settings": {"strength": 0.8, "noun_weight": 1.1, "ends": "off"}}}
    presets_folder.mkdir()
    (presets_folder / "mine.json").write_text(json.dumps(both))
    merged: list[SpeedConfig] = []
    bound: list[BindingConfig] = []

    def keep_speed(model: Any, config: SpeedConfig, **_: Any) -> None:
        merged.append(config)
        raise ValueError("that was all")

    def keep_binding(text: str, config: BindingConfig, *_: Any, **__: Any) -> None:
        bound.append(config)
        raise ValueError("that was all")

    monkeypatch.setattr(patcher, "patch_speed", keep_speed)
    monkeypatch.setattr(binding_door, "bind_conditioning", keep_binding)
    speed.execute(Model(), "mine", 0.5)
    bind.execute(Clip(), PROMPT, "mine", 0.5)

    words = parse(["generate", "x", "--preset", "mine", "--strength", "0.5"])
    assert words.execute is generate.execute
    merged.append(Choice({}, words.preset, words.strength).config("sdxl"))
    words = parse(["bind", "x", "--preset", "mine", "--strength", "0.5"])
    assert words.execute is cli_bind.execute
    values = {name: getattr(words, name) for name in kinds(BindingConfig)}
    bound.append(new_binding_config(values, words.preset))

    given = (True, "mine", 0.5, "same", True, "mine", 0.5)  # as a webui's script gets them
    choice = importlib.import_module("a1111_extension.choice").read_choice(given, {})
    merged.append(choice.speed("sdxl"))
    bound.append(choice.binding())

    merged.append(speed_preset("mine", "sdxl", 0.5))
    bound.append(binding_preset("mine", 0.5))
    assert merged == [SpeedConfig(ratio=0.2, kv_ratio=0.3, levels=(1, 2))] * 4
    assert bound == [BindingConfig(strength=0.4, noun_weight=1.1, ends="off")] * 4
