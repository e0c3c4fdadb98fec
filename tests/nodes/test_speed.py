"""The speed nodes: a preset or knobs in, a patched clone and a sentence out; the node reports each run."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch

from tome_core.errors import UnsupportedModelError
from tome_core.presets import SPEED_PRESETS, speed_preset
from tome_core.speed import LevelReport, SpeedConfig, SpeedReport
from tome_core.speed.doors import patcher


class Model:
    """A patcher that only counts its wrappers."""

    load_device = torch.device("cpu")

    def __init__(self) -> None:
        self.wrappers: dict[str, list[Any]] = {}

    def clone(self) -> Model:
        copy = Model()
        copy.wrappers = {key: list(found) for key, found in self.wrappers.items()}
        return copy

    def add_wrapper_with_key(self, kind: str, key: str, wrapper: Any) -> None:
        assert kind == "outer_sample"
        self.wrappers.setdefault(key, []).append(wrapper)

    def remove_wrappers_with_key(self, kind: str, key: str) -> None:
        self.wrappers.pop(key, None)


class Patch:
    """Stands for the core's `patch_speed`, whose own tests are elsewhere: keeps what it was given."""

    def __call__(self, model: Model, config: SpeedConfig, *, on_end: Any) -> tuple[Model, SpeedReport]:
        self.config, self.on_end = config, on_end
        self.report = SpeedReport("UNetModel", config, config.metric, (LevelReport(1, 1, 5, True),))
        return model.clone(), self.report


@pytest.fixture
def speed(nodes: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(patcher, "patch_speed", Patch())
    monkeypatch.setattr(patcher, "find_family", lambda model: "sdxl")
    return importlib.import_module(f"{nodes.__name__}.speed")


@pytest.fixture
def sent(nodes: Any) -> Any:
    return importlib.import_module(f"{nodes.__name__}.node_text").PromptServer.instance.sent


def test_the_preset_is_the_familys_own_and_scaled(speed: Any):
    speed.ToMeSpeed.execute(Model(), "balanced", 0.5)
    assert patcher.patch_speed.config == speed_preset("balanced", "sdxl", 0.5)


def test_the_knobs_make_the_config(speed: Any):
    speed.ToMeSpeedAdvanced.execute(Model(), ratio=0.25, levels="1, 2", seed=-1)
    assert patcher.patch_speed.config == SpeedConfig(ratio=0.25, levels=(1, 2))


def test_a_broken_knob_is_named_before_the_prompt_runs(speed: Any):
    assert speed.ToMeSpeedAdvanced.validate_inputs(model=None, ratio=None, levels="2") is True
    said = speed.ToMeSpeedAdvanced.validate_inputs(start_percent=0.5, end_percent=0.5)
    assert said == "end_percent must be above start_percent, got 0.5"


def test_the_report_comes_out_and_shows_on_the_node(speed: Any, sent: Any):
    answer = speed.ToMeSpeed.execute(Model(), "fast", 1.0)
    _, text = answer.args
    assert text.startswith("Will merge 50% of the tokens in block at level 1 (5 of 5 blocks)")
    assert answer.ui["text"] == (text,)
    assert sent == [(text, "7", "browser")]


def test_after_a_run_the_node_says_what_was_merged_and_how_long_it_took(speed: Any, sent: Any):
    patched, _ = speed.ToMeSpeed.execute(Model(), "fast", 1.0).args
    (around_run,) = [found for kind in patched.wrappers.values() for found in kind]

    def run() -> str:
        patcher.patch_speed.report.merged_calls += 4
        patcher.patch_speed.report.record(1, (32, 32), "block", 512, channels=320)
        return "latent"

    assert around_run(run) == "latent"
    patcher.patch_speed.on_end(patcher.patch_speed.report)
    first, *others = sent[-1][0].splitlines()
    assert first.startswith("This run took ") and "s a model call" in first
    assert others[:2] == [
        "Merged tokens in 4 of 4 model calls.",
        "Level 1 (5 blocks), 1024 tokens: block ran on 512. These blocks compute 56% less.",
    ]


SAVED = ({"min_tokens": True}, {"min_tokens": 1}, {"guard": True})  # by place, as the host hands it on, and by name
GUARD_GONE = "guard is gone, since merging depends on no clock any more; min_tokens 64 leaves small levels untouched"
METRIC_GONE = "is gone: estimate, which keeps pictures closer, is in its place"


@pytest.mark.parametrize("saved", SAVED)
def test_a_workflow_that_was_saved_with_the_guard_on_still_runs_and_says_that_it_is_gone(
    speed: Any, sent: Any, saved: Any
):
    assert speed.ToMeSpeedAdvanced.validate_inputs(**saved) is True
    _, text = speed.ToMeSpeedAdvanced.execute(Model(), ratio=0.25, **saved).args
    assert patcher.patch_speed.config == SpeedConfig(ratio=0.25)
    assert text.splitlines()[1:] == [f"Note: {GUARD_GONE}."]
    patcher.patch_speed.on_end(patcher.patch_speed.report)
    assert sent[-1][0].splitlines()[-1] == f"Note: {GUARD_GONE}."


@pytest.mark.parametrize("saved", [{"min_tokens": False}, {"min_tokens": 0}, {"guard": False}])
def test_a_workflow_that_was_saved_with_the_guard_off_is_what_it_was(speed: Any, saved: Any):
    assert speed.ToMeSpeedAdvanced.validate_inputs(**saved) is True
    _, text = speed.ToMeSpeedAdvanced.execute(Model(), **saved).args
    assert patcher.patch_speed.config == SpeedConfig() and "Note" not in text


@pytest.mark.parametrize("metric", ["first_block", "stem"])
def test_a_workflow_that_was_saved_with_a_metric_that_is_gone_runs_with_the_default_and_says_so(
    speed: Any, metric: str
):
    saved = {"metric": metric, "min_tokens": True}
    assert speed.ToMeSpeedAdvanced.validate_inputs(**saved) is True
    _, text = speed.ToMeSpeedAdvanced.execute(Model(), **saved).args
    assert patcher.patch_speed.config == SpeedConfig()
    assert text.splitlines()[1:] == [f"Note: {GUARD_GONE}.", f"Note: metric {metric} {METRIC_GONE}."]


def test_what_is_gone_is_said_where_nothing_merges_as_well(speed: Any):
    _, text = speed.ToMeSpeedAdvanced.execute(Model(), ratio=0.0, metric="stem").args
    assert text == f"Off: the model stays untouched.\nNote: metric stem {METRIC_GONE}."
    _, text = speed.ToMeSpeedAdvanced.execute(Model(), ratio=2.0, metric="stem").args
    assert text.endswith(f"from 0 to 1, got 2.0\nNote: metric stem {METRIC_GONE}.")


def test_a_number_of_tokens_is_no_guard(speed: Any):
    _, text = speed.ToMeSpeedAdvanced.execute(Model(), min_tokens=256).args
    assert patcher.patch_speed.config == SpeedConfig(min_tokens=256) and "Note" not in text


def test_the_last_knob_is_where_the_guard_was_so_that_saved_values_keep_their_places(speed: Any):
    names = [made.id for made in speed.ToMeSpeedAdvanced.define_schema().inputs]
    assert len(names) == 18 and names[7] == "metric" and names[-2:] == ["refresh", "min_tokens"]


@pytest.mark.parametrize("arguments", [("off", 1.0), ("fast", 0.0)])
def test_off_says_so_and_shows_the_time_of_a_run_to_compare_with(speed: Any, sent: Any, arguments: Any):
    on, _ = speed.ToMeSpeed.execute(Model(), "fast", 1.0).args
    patched, text = speed.ToMeSpeed.execute(on, *arguments).args
    assert patched is not on and text == "Off: the model stays untouched."
    (around_run,) = [found for kind in patched.wrappers.values() for found in kind]
    assert around_run(lambda: "latent") == "latent"
    first, *others = sent[-1][0].splitlines()
    assert first.startswith("This run took ") and others == ["Off: the model stays untouched."]


def test_a_second_node_watches_instead_of_the_first(speed: Any):
    first, _ = speed.ToMeSpeed.execute(Model(), "fast", 1.0).args
    second, _ = speed.ToMeSpeedAdvanced.execute(first).args
    assert [len(found) for found in second.wrappers.values()] == [1]


def test_a_model_that_cannot_be_merged_comes_out_as_it_came_in(speed: Any, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise UnsupportedModelError("Flux is not yet supported")

    monkeypatch.setattr(patcher, "patch_speed", refuse)
    model = Model()
    answer = speed.ToMeSpeed.execute(model, "fast", 1.0)
    given, text = answer.args
    assert given is model
    assert text == "The model passes through as it came: Flux is not yet supported"
    assert answer.ui["text"] == (text,)


def test_a_knob_by_wire_that_breaks_its_rule_costs_no_picture(speed: Any):
    model = Model()
    given, text = speed.ToMeSpeedAdvanced.execute(model, ratio=2.0).args
    assert given is model
    assert text.endswith("passes through as it came: ratio must be a number from 0 to 1, got 2.0")


@pytest.mark.parametrize("name", ["ToMeSpeed", "ToMeSpeedAdvanced"])
def test_equal_nodes_are_not_cached_as_one_so_that_each_reports_its_own_runs(speed: Any, name: str):
    described = getattr(speed, name).define_schema()
    assert described.not_idempotent and [hidden.value for hidden in described.hidden] == ["UNIQUE_ID"]


def test_the_presets_on_the_node_are_the_cores_and_explained(speed: Any):
    preset = speed.ToMeSpeed.define_schema().inputs[1]
    assert tuple(preset.options) == SPEED_PRESETS and preset.default == "balanced"
    assert [line.split(":")[0] for line in preset.tooltip.splitlines()[:-1]] == list(SPEED_PRESETS)
    assert preset.tooltip.splitlines()[-1] == "Further words are your own presets, from ToMe Save My Preset."
