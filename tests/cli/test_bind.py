"""`tome bind`: the parse, two pictures from the same noise, and maps as pictures and numbers."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image

from tome_core.binding import BindingConfig
from tome_core.cli import bind
from tome_core.demo import DEMO_GUIDANCE
from tome_core.presets import binding_preset

PROMPT = "a red circle and a blue square"
TOLD = "circle (red); square (blue)"
QUICK = ("--size", 64, "--steps", 1)


def report(tmp_path):
    return json.loads((tmp_path / "tome-bind" / "maps.json").read_text())


def test_it_tells_the_parse_and_writes_pictures_and_maps(tome, tmp_path):
    told = tome("bind", PROMPT, *QUICK, "--seed", 3)
    assert (told.code, told.err) == (0, "")
    assert told.out.startswith(f"{TOLD}\nmaps of two things lie on each other (0 apart, 1 the same): untouched 0.")
    assert told.out.endswith("Open tome-bind/pictures.png and tome-bind/maps.png\n")
    names = sorted(path.name for path in (tmp_path / "tome-bind").iterdir())
    assert names == ["maps.json", "maps.png", "pictures.png"]
    picture = Image.open(tmp_path / "tome-bind" / "pictures.png")
    assert (picture.text["prompt"], picture.text["seed"]) == (PROMPT, "3")
    assert Image.open(tmp_path / "tome-bind" / "maps.png").width > picture.width


def test_a_preset_is_its_settings_and_those_named_beside_it_rule(tome, tmp_path):
    tome("bind", PROMPT, *QUICK, "--preset", "gentle", "--strength", 0.5)
    assert report(tmp_path)["settings"]["binding"] == asdict(binding_preset("gentle", 0.5))
    tome("bind", PROMPT, *QUICK, "--preset", "gentle", "--ends", "end")
    assert report(tmp_path)["settings"]["binding"] == asdict(BindingConfig(norm="noun"))


def test_the_numbers_are_those_of_the_maps(tome, tmp_path):
    tome("bind", PROMPT, *QUICK, "--strength", 0.5)
    told = report(tmp_path)
    assert told["settings"]["binding"]["strength"] == 0.5
    assert told["parse"]["told"] == TOLD
    assert told["parse"]["without_attributes"] == "a circle and a square"
    assert told["parse"]["groups"][1] == {
        "subject": "square",
        "modifiers": ["blue"],
        "spans": {"subject": [24, 30], "modifiers": [[19, 23]]},
        "rows": {"noun": [7], "modifiers": [6]},
    }
    for name in ("untouched", "bound"):
        figures = told["maps"][name]
        mean = np.array(figures["mean"])
        assert mean.shape == (2, 8, 8)
        assert ((mean >= 0) & (mean <= 1)).all()
        assert len(figures["entropy_nats_by_call"]) == figures["calls"] == 1
        shares = mean / mean.sum(axis=(1, 2), keepdims=True)
        assert figures["entropy_nats"] == pytest.approx((-shares * np.log(shares)).sum(axis=(1, 2)).tolist(), abs=1e-3)
        assert figures["overlap"][0][1] == pytest.approx(np.minimum(*shares).sum(), abs=1e-3)
    assert told["maps"]["untouched"]["mean"] != told["maps"]["bound"]["mean"]


@pytest.fixture
def pictures(monkeypatch):
    """The pictures of each run, in the order in which they are drawn."""
    kept, whole = [], bind.draw

    def keep(*words):
        drawn = whole(*words)
        kept.append(np.array(drawn.pictures[0]))
        return drawn

    monkeypatch.setattr(bind, "draw", keep)
    return kept


def test_the_first_picture_is_the_untouched_pipelines_and_strength_0_draws_it_again(tome, pictures, demo_model):
    options = {"num_inference_steps": 2, "guidance_scale": 3.0, "width": 64, "height": 64}
    expected = demo_model(PROMPT, generator=torch.Generator().manual_seed(5), **options).images[0]
    words = ("--size", 64, "--steps", 2, "--seed", 5, "--guidance", 3)
    tome("bind", "a ~red circle~ and a ~blue square~", *words, "--strength", 0)
    tome("bind", PROMPT, *words)
    assert (pictures[0] == np.array(expected)).all()
    assert (pictures[1] == pictures[0]).all()
    assert (pictures[2] == pictures[0]).all()
    assert (pictures[3] != pictures[0]).any()


def test_no_trace_is_left_on_the_model(tome, demo_model):
    assert tome("bind", PROMPT, *QUICK, "--ratio", 0.5, "--parts", "block").code == 0
    assert "encode_prompt" not in vars(demo_model)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in demo_model.unet.modules())


def test_image_tokens_merge_in_both_pictures_and_the_maps_stay_whole(tome, tmp_path, pictures):
    tome("bind", PROMPT, *QUICK, "--steps", 3)
    told = tome("bind", PROMPT, *QUICK, "--steps", 3, "--ratio", 0.5, "--parts", "cross_attention")
    assert (told.code, told.err) == (0, "")
    assert np.array(report(tmp_path)["maps"]["bound"]["mean"]).shape == (2, 8, 8)
    assert (pictures[0] != pictures[2]).any()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--strength", 0), "strength 0 binds nothing: both pictures are the untouched one; above 0 they differ"),
        (("--levels", "1", "--parts", "mlp"), "--levels and --parts have no effect at ratio 0, which"),
        (("--prediction-type", "epsilon"), "--prediction-type has no effect on the demo model, whose own is known"),
        (("--negative-prompt", "red", "--guidance", 1), "the negative prompt has no effect at guidance 1; above 1 it"),
        (
            ("--parts", "mlp"),
            "--parts has no effect at ratio 0, which merges no image tokens; above 0 some merge",
        ),
    ],
)
def test_a_setting_without_effect_is_noted(tome, words, sentence):
    told = tome("bind", PROMPT, *QUICK, *words)
    assert told.code == 0
    assert told.err.startswith(f"tome: note: {sentence}")
    assert told.err.count("\n") == 1


def test_what_merging_could_not_do_is_noted(tome):
    told = tome("bind", PROMPT, *QUICK, "--ratio", 0.9)
    assert told.err.startswith("tome: note: ratio 0.9 is above what stride 2x2 allows")


def test_an_interrupt_keeps_the_first_picture(tome, tmp_path, monkeypatch, pictures):
    whole = bind.draw

    def interrupted(*words):
        if pictures:
            raise KeyboardInterrupt
        return whole(*words)

    monkeypatch.setattr(bind, "draw", interrupted)
    told = tome("bind", PROMPT, *QUICK)
    assert (told.code, told.err) == (130, "tome: error: interrupted after 1 of 2 pictures; the files are of that one\n")
    assert list(report(tmp_path)["maps"]) == ["untouched"]
    assert Image.open(tmp_path / "tome-bind" / "pictures.png").text["prompt"] == PROMPT


def test_an_interrupt_of_the_first_picture_leaves_nothing(tome, tmp_path, monkeypatch):
    def interrupted(*words):
        raise KeyboardInterrupt

    monkeypatch.setattr(bind, "draw", interrupted)
    told = tome("bind", PROMPT, *QUICK)
    assert (told.code, told.err) == (130, "tome: error: interrupted\n")
    assert list(tmp_path.rglob("*.png")) == []


def test_the_help_names_the_default_guidance(tome):
    assert f"default {DEMO_GUIDANCE:g} for the demo model" in " ".join(tome("bind", "--help").out.split())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((PROMPT,), TOLD),
        (("a cat and a dog",), "no groups"),
        (("a red ~shiny ^circle~ and a blue square",), "circle (shiny)"),
        ((PROMPT, "--groups", "square: red; circle: blue"), "circle (blue); square (red)"),
    ],
)
def test_the_parse_alone_needs_no_model(tome, tmp_path, monkeypatch, words, line):
    monkeypatch.setattr(bind, "opened", None)
    assert tome("bind", *words, "--parse") == (0, f"{line}\n", "")
    assert list(tmp_path.iterdir()) == []


def test_words_that_the_demo_model_was_not_taught_are_noted(tome):
    told = tome("bind", "a red dog", *QUICK)
    assert told.err.startswith("tome: note: the demo model was not taught 'dog'")
    assert "one group: there is no other one" in told.out


def test_a_thing_that_is_cut_off_is_told_in_one_line_and_nothing_is_drawn(tome, tmp_path):
    told = tome("bind", "a circle " + "and so on " * 24 + "and a red square", *QUICK)
    assert told.code == 2
    assert told.err.splitlines()[-1].startswith("tome: error: group must lie within what the model reads, got 'red")
    assert told.out == ""
    assert list(tmp_path.iterdir()) == []
