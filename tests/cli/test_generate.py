"""Pictures from prompts: the same for the same seed, alone or in a batch, and with their settings inside."""

import json
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tome_core
from tome_core.cli import comparison, models
from tome_core.demo import DEMO_GUIDANCE
from tome_core.speed import SpeedConfig

PROMPT = "a red square"
QUICK = ("--size", 64, "--steps", 2)


def pixels(path: Path) -> np.ndarray:
    return np.array(Image.open(path)).astype(int)


def test_a_picture_has_the_size_and_keeps_how_it_was_made(tome, tmp_path):
    told = tome(
        "generate", PROMPT, "--size", "72x64", "--steps", 1, "--seed", 7, "--parts", "attention,mlp", "--out", "a.png"
    )
    assert told.code == 0
    picture = Image.open(tmp_path / "a.png")
    assert picture.size == (72, 64)
    texts = picture.text
    assert (texts["prompt"], texts["seed"], texts["tome_version"]) == (PROMPT, "7", tome_core.__version__)
    config = SpeedConfig(parts=("attention", "mlp"))
    assert SpeedConfig(**json.loads(texts["tome_config"])) == config
    assert json.loads(texts["settings"]) == {
        "model": "demo",
        "steps": 1,
        "width": 72,
        "height": 64,
        "guidance": DEMO_GUIDANCE,
    }


def test_what_merging_did_and_where_the_picture_is_are_told(tome):
    told = tome("generate", PROMPT, *QUICK, "--ratio", 0.25, "--out", "a.png")
    assert "25% of the tokens in attention" in told.out
    assert "64 -> 48 (75%)" in told.out
    assert told.out.endswith("CPU seconds a picture\nwrote a.png\n")
    assert told.err == ""


def test_the_same_seed_gives_the_same_file_and_another_seed_another(tome, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        tome("generate", PROMPT, *QUICK, "--seed", seed, "--out", f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (pixels(tmp_path / "a.png") != pixels(tmp_path / "c.png")).any()


def test_a_picture_is_the_same_alone_and_in_a_batch(tome, tmp_path):
    told = tome("generate", PROMPT, *QUICK, "--seed", 3, "--batch", 3, "--out", "batch.png")
    assert "wrote batch-3.png\nwrote batch-4.png\nwrote batch-5.png" in told.out
    tome("generate", PROMPT, *QUICK, "--seed", 4, "--out", "alone.png")
    alone, member = pixels(tmp_path / "alone.png"), pixels(tmp_path / "batch-4.png")
    assert abs(alone - member).max() <= 1  # convolutions add up in another order for another batch size
    assert abs(alone - pixels(tmp_path / "batch-5.png")).max() > 1
    assert Image.open(tmp_path / "batch-4.png").text["seed"] == "4"


def test_ratio_0_is_the_untouched_pipelines_picture(tome, tmp_path, demo_model):
    tome("generate", PROMPT, *QUICK, "--ratio", 0, "--seed", 5, "--guidance", 3, "--out", "a.png")
    options = {"num_inference_steps": 2, "guidance_scale": 3.0, "width": 64, "height": 64}
    expected = demo_model(PROMPT, generator=torch.Generator().manual_seed(5), **options).images[0]
    assert (pixels(tmp_path / "a.png") == np.array(expected)).all()


def test_merging_changes_the_picture_and_leaves_no_hook_on_the_model(tome, tmp_path, demo_model):
    for ratio in (0, 0.75):
        tome("generate", PROMPT, *QUICK, "--ratio", ratio, "--levels", "1,2", "--out", f"{ratio}.png")
    assert (pixels(tmp_path / "0.png") != pixels(tmp_path / "0.75.png")).any()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in demo_model.unet.modules())


def test_a_comparison_is_one_sheet_for_all_seeds(tome, tmp_path):
    told = tome("generate", PROMPT, *QUICK, "--compare", "--batch", 2, "--seed", 9, "--out", "sheet.png")
    assert told.code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.width > 2 * 240 < sheet.height
    assert sheet.text["seed"] == "9, 10"
    assert "\nuntouched  " in told.out
    assert "\nratio 0.5  " in told.out


def test_an_interrupted_comparison_keeps_the_seeds_that_are_drawn(tome, tmp_path, monkeypatch):
    whole, calls = comparison.draw, count(1)

    def interrupted(*words):
        if next(calls) == 4:  # the first is to warm up, two are a row
            raise KeyboardInterrupt
        return whole(*words)

    monkeypatch.setattr(comparison, "draw", interrupted)
    told = tome("generate", PROMPT, *QUICK, "--compare", "--batch", 2, "--seed", 9, "--out", "sheet.png")
    assert told.code == 130
    assert told.err == "tome: error: interrupted after 1 of 2 rows; the sheet and the figures are of those\n"
    assert Image.open(tmp_path / "sheet.png").text["seed"] == "9"


def test_the_prediction_type_reaches_the_checkpoint_and_the_picture(tome, tmp_path, monkeypatch, demo_model):
    opened = []
    monkeypatch.setattr(models, "load_pipeline", lambda path, **options: opened.append(options) or demo_model)
    words = ("--prediction-type", "v_prediction", "--model", "sd2.safetensors", "--out", "a.png")
    assert tome("generate", PROMPT, *QUICK, *words).code == 0
    assert opened[0]["prediction_type"] == "v_prediction"
    settings = json.loads(Image.open(tmp_path / "a.png").text["settings"])
    assert (settings["model"], settings["prediction_type"]) == ("sd2.safetensors", "v_prediction")


def test_no_earlier_picture_is_overwritten_without_being_named(tome, tmp_path):
    for words in ((), (), ("--batch", 2), ("--batch", 2)):
        assert tome("generate", PROMPT, "--size", 64, "--steps", 1, *words).code == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        "tome-00001.png",
        "tome-00002.png",
        *(f"tome-0000{i}-{seed}.png" for i in (3, 4) for seed in (0, 1)),
    ]


def test_a_prompt_in_any_letters_is_kept(tome, tmp_path):
    prompt = "ein roter Würfel, 赤い四角"
    tome("generate", prompt, "--size", 64, "--steps", 1, "--compare", "--out", "a.png")
    assert Image.open(tmp_path / "a.png").text["prompt"] == prompt


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("a red dog in a Park",), "the demo model was not taught 'dog', 'park'; it knows coloured shapes"),
        ((" ".join(["red"] * 80),), "the prompt has 80 tokens and the model reads 75: its end has no effect"),
        ((PROMPT, "--prediction-type", "epsilon"), "--prediction-type has no effect on the demo model"),
        ((PROMPT, "--ratio", 0.9), "ratio 0.9 is above what stride 2x2 allows"),
        ((PROMPT, "--negative-prompt", "blue", "--guidance", 1), "the negative prompt has no effect at guidance 1"),
    ],
    ids=["untaught", "long", "prediction", "ratio", "negative"],
)
def test_what_has_no_effect_is_noted_in_one_line(tome, words, sentence):
    told = tome("generate", *words, "--size", 64, "--steps", 1)
    assert told.code == 0
    assert told.err.startswith(f"tome: note: {sentence}")
    assert told.err.count("\n") == 1
