"""`tome bench binding` as a whole, on few small pictures: with a judge on the demo model, without one elsewhere."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.tools.random_checkpoints import narrow_configs, write_folder
from tome_core.bench.quality import comparison

QUICK = ("bench", "binding", "--size", 64, "--steps", 1, "--prompts", 2, "--seeds", 1, "--processes", 1, "--rounds", 1)
FILE = "a green bench and a blue bowl\na cat\n"


def read(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.fixture(autouse=True)
def short_gate(monkeypatch):
    monkeypatch.setattr(comparison, "PICTURES", 6)


def test_on_the_demo_model_binding_is_judged_beside_controls_gate_and_time(tome, tmp_path):
    told = tome(*QUICK, "--methods", "merge,ets,isolation,ours:metric=latent", "--json", "a.json", "--markdown", "a.md")
    assert (told.code, told.err) == (0, "")
    report = read(tmp_path / "a.json")
    names = [found["method"] for found in report["methods"]]
    assert names == [
        "untouched",
        "positive-control",
        "negative-control",
        "merge",
        "ets",
        "isolation",
        "ours:metric=latent",
    ]
    assert [test["pictures"] for test in report["gate"]["tests"]] == [6, 6, 6]
    assert report["listed_prompts"] == 0
    for found in report["methods"][1:]:
        assert found["time_ratio_min"] <= found["time_ratio"] <= found["time_ratio_max"]
        assert found["equal_to_untouched"] < 2
    assert "bed for merging" in told.out and "binding error given presence" in told.out


def test_a_file_of_prompts_is_drawn_and_it_is_said_that_nothing_judges_it(tome, tmp_path):
    (tmp_path / "color_val.txt").write_text(FILE)
    told = tome(
        *(*QUICK, "--methods", "merge", "--prompts-file", "color_val.txt"),
        *("--split", "seen", "--json", "a.json", "--sheet", "sheet.png"),
    )
    assert told.code == 0
    assert told.err.splitlines() == [
        "tome: note: the demo model was not taught words of 2 of 2 prompts, such as 'bench'; --model takes a "
        "checkpoint of yours",
        "tome: note: the judge knows no attributes of prompts from a file: only the distance to the untouched pictures "
        "is shown",
        "tome: note: --split has no effect beside --prompts-file, which is instead of a suite",
        "tome: note: merge: no thing of which something is said in 1 of 2 prompts, which stay as they are, such as "
        "'a cat'",
    ]
    assert told.out.startswith("color_val.txt: 2 prompts x 1 seeds, 64 pixels, 1 steps, weights ")
    assert "Nothing judges these pictures" in told.out
    assert "fully right" not in told.out
    report = read(tmp_path / "a.json")
    assert (report["suite"]["split"], report["suite"]["prompts"], report["suite"]["judged"]) == (None, 2, False)
    assert [found["method"] for found in report["methods"]] == ["untouched", "merge"]
    assert (report["methods"][1]["fully_right"], report["methods"][1]["equal_to_untouched"]) == (None, 1)
    assert report["gate"] is None
    assert Image.open(tmp_path / "sheet.png").width > 500


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_checkpoint_of_the_users_is_compared_without_a_judge(tome, tmp_path, family):
    write_folder(tmp_path / "own", family, narrow_configs(family))
    words = ("--model", "own", "--methods", "merge+ets,isolation", "--json", "a.json", "--sheet", "sheet.png")
    told = tome(*QUICK, *words)
    assert told.code == 0
    assert told.err.endswith(
        "tome: note: the judge knows the demo model's pictures alone: only the distance to the untouched pictures is "
        "shown, and --sheet shows pictures to look at\n"
    )
    report = read(tmp_path / "a.json")
    assert (report["model"]["checkpoint"], report["model"]["dtype"], report["settings"]["guidance"]) == (
        "own",
        "float32",
        7.5,
    )
    assert [found["method"] for found in report["methods"]] == ["untouched", "merge+ets", "isolation"]
    for found in report["methods"][1:]:
        assert found["latent_deviation"] > 0
        assert (found["clip_distance"], found["fully_right"]) == (None, None)
    assert "Nothing judges these pictures" in told.out
    assert tome(*QUICK, *words).out == told.out  # nothing is drawn or timed again


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--prompts-file", "missing.txt"), "cannot read missing.txt: No such file or directory"),
        (("--prompts-file", "empty.txt"), "prompts file must hold a prompt a line, got none in empty.txt"),
        (("--methods", "glue"), "methods must be among untouched, ours, todo, tomesd, bind, merge, merge+ets, ets"),
        (("--model", "missing.safetensors"), "missing.safetensors does not exist"),
    ],
)
def test_a_mistake_is_told_in_one_line(tome, tmp_path, words, sentence):
    (tmp_path / "empty.txt").write_text("\n")
    told = tome(*QUICK, *words)
    assert told.code == 2
    assert told.err.startswith(f"tome: error: {sentence}")
    assert told.err.count("\n") == 1


def test_settings_without_effect_are_told(tome, tmp_path):
    told = tome(*QUICK, "--skip-gate", "--methods", "bind:strength=0", "--dtype", "float16")
    assert told.err.splitlines() == [
        "tome: note: --dtype has no effect on the demo model, which is compared in float32",
        "tome: note: bind:strength=0: strength 0 binds nothing: its pictures are the untouched ones",
    ]
