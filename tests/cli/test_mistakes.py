"""Every mistake of a user: one line that says what is wrong, exit code 2, nothing written, no traceback."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

from tests.tools.random_checkpoints import narrow_configs, write_folder
from tome_core.demo import CHECKPOINT

GENERATE = ("generate", "a red square", "--size", "64", "--steps", "1")
DEMO = ("demo", "--size", "64", "--steps", "1")
BENCH = ("bench", "speed", "--size", "64", "--repeats", "1")
BIND = ("bind", "a red circle and a blue square", "--size", "64", "--steps", "1")
QUALITY = ("bench", "quality", "--size", "64", "--steps", "1", "--prompts", "1", "--skip-gate")

WRONG_WORDS = [
    (GENERATE, "--ratio 1.5", "ratio must be a number from 0 to 1, got 1.5"),
    (GENERATE, "--ratio nan", "ratio must be a number from 0 to 1, got nan"),
    (GENERATE, "--ratio half", "--ratio must be a number from 0 to 1, got 'half' (see tome generate --help)"),
    (GENERATE, "--kv-ratio half", "--kv-ratio must be a number from 0 to 1, got 'half' (see tome generate --help)"),
    (GENERATE, "--levels 0", "levels must be one or more different whole numbers from 1 to 8, got (0,)"),
    (
        GENERATE,
        "--levels fine",
        "--levels must be one or more different whole numbers from 1 to 8, got 'fine' (see tome generate --help)",
    ),
    (GENERATE, "--levels 1,5", "levels must be among (1, 2, 3, 4) on this UNet2DConditionModel, got (1, 5)"),
    (
        GENERATE,
        "--parts eyes",
        "parts must be one or more of ('attention', 'cross_attention', 'mlp', 'block', 'stack'), each once",
    ),
    (GENERATE, "--stride 1x1", "stride must be two whole numbers from 1 to 8, one of them above 1, got (1, 1)"),
    (GENERATE, "--matching odd", "matching must be one of ('bipartite', 'window'), got 'odd'"),
    (GENERATE, "--start-percent 0.8 --end-percent 0.2", "end_percent must be above start_percent, got 0.2"),
    (GENERATE, "--size 100", "--size must be pixels such as 512 or 768x512, each a multiple of 8 from 64 to 8192"),
    (GENERATE, "--size 64x", "--size must be pixels such as 512 or 768x512"),
    (GENERATE, "--steps 0", "--steps must be a whole number from 1 to 1000, got '0'"),
    (GENERATE, "--seed -1", "--seed must be a whole number of at least 0, got '-1'"),
    (GENERATE, "--guidance inf", "--guidance must be a number from 0 to 100, got 'inf'"),
    (GENERATE, "--dtype int8", "--dtype must be one of float32, float16, bfloat16, got 'int8'"),
    (GENERATE, "--device banana", "device must be auto, cpu, or a GPU that torch finds on this machine, got 'banana'"),
    (GENERATE, "--device meta", "device must be auto, cpu, or a GPU that torch finds on this machine, got 'meta'"),
    (GENERATE, "--out picture.jpg", "out must be a file name that ends in .png, got 'picture.jpg'"),
    (GENERATE, "--speed 2", "unrecognized arguments: --speed 2"),
    (GENERATE, "--model missing.safetensors", "missing.safetensors does not exist"),
    (DEMO, "--ratios 0.5,nan", "ratio must be a number from 0 to 1, got nan"),
    (DEMO, "--ratios all", "--ratios must be numbers such as 0.5,0.75, got 'all'"),
    (DEMO, "--levels 7", "levels must be among (1, 2, 3, 4) on this UNet2DConditionModel, got (7,)"),
    (BIND, "--strength 2", "strength must be a number from 0 to 1, got 2.0"),
    (BIND, "--strength much", "--strength must be a number from 0 to 1, got 'much' (see tome bind --help)"),
    (BIND, "--norm max", "norm must be one of ('none', 'noun'), got 'max'"),
    (BIND, "--removed mask", "removed must be one of ('fill', 'zero', 'keep'), got 'mask'"),
    (BIND, "--groups dog:red", "groups must name words of the prompt, got 'dog'"),
    (BIND, "--groups circle:", "groups must be like 'cat: red, wearing a hat; dog: black', got 'circle:'"),
    (BIND, "--groups circle:red;square:red", "groups must not share words, got 'red' twice"),
    (BIND, "--ratio 2", "ratio must be a number from 0 to 1, got 2.0"),
    (BIND, "--levels 7 --ratio 0.5", "levels must be among (1, 2, 3, 4) on this UNet2DConditionModel, got (7,)"),
    (BIND, "--model missing.safetensors", "missing.safetensors does not exist"),
    (BENCH, "--ratio -1", "ratio must be a number from 0 to 1, got -1.0"),
    (BENCH, "--methods theirs", "methods must be among untouched, ours, todo, tomesd, got 'theirs'"),
    (BENCH, "--methods ours:speed=2", "ours has no setting 'speed'; it has preset, strength, ratio, "),
    (BENCH, "--methods tomesd:metric=block", "tomesd has no setting 'metric'; it has ratio, levels, parts, stride"),
    (BENCH, "--methods ours:levels=x", "levels cannot be 'x', in 'ours:levels=x'"),
    (BENCH, "--methods ours:ratio=2", "ratio must be a number from 0 to 1, got 2.0"),
    (BENCH, "--methods ours:levels=6", "levels must be among (1, 2, 3, 4) on this UNet2DConditionModel, got (6,)"),
    (BENCH, "--json results.txt", "json must be a file name that ends in .json, got 'results.txt'"),
    (BENCH, "--model missing.safetensors", "missing.safetensors does not exist"),
    (QUALITY, "--methods theirs", "methods must be among untouched, ours, todo, tomesd, bind, merge, merge+ets, ets, "),
    (QUALITY, "--methods ours:levels=6", "levels must be among (1, 2, 3, 4) on this UNet2DConditionModel, got (6,)"),
    (QUALITY, "--suite portraits", "--suite must be one of "),
    (QUALITY, "--split both", "--split must be one of "),
    (QUALITY, "--prompts 151", "prompts must be from 1 to 150 in suite two-colours, held-out, got 151"),
    (QUALITY, "--suite single", "split must be another: suite single has no held-out prompts"),
    (QUALITY, "--seeds 0", "--seeds must be a whole number from 1 to 1000, got '0'"),
    (QUALITY, "--guidance 1", "--guidance must be a number from 1.1 to 100, got '1'"),
    (QUALITY, "--size 64x128", "size must be one side for square pictures, got 64x128"),
    (QUALITY, "--processes 0", "--processes must be a whole number from 1 to 64, got '0'"),
    (QUALITY, "--json results.txt", "json must be a file name that ends in .json, got 'results.txt'"),
    (QUALITY, "--markdown results.txt", "markdown must be a file name that ends in .md, got 'results.txt'"),
    (QUALITY, "--plot results.pdf", "plot must be a file name that ends in .png, got 'results.pdf'"),
    (QUALITY, "--sheet results.gif", "sheet must be a file name that ends in .png, got 'results.gif'"),
    (QUALITY, "--checkpoint missing.safetensors", "missing.safetensors does not exist"),
]


@pytest.fixture
def mistake(tome, tmp_path) -> Callable[..., str]:
    """Return a function that runs wrong words and returns the one line that they bring."""

    def run(*words: object) -> str:
        before = sorted(tmp_path.rglob("*"))
        told = tome(*words)
        assert told.code == 2
        assert told.err.startswith("tome: error: ")
        assert told.err.count("\n") == 1
        assert told.out == ""
        assert sorted(tmp_path.rglob("*")) == before
        return told.err.removeprefix("tome: error: ")

    return run


@pytest.mark.parametrize(
    ("command", "words", "expected"), WRONG_WORDS, ids=lambda value: value if isinstance(value, str) else value[0]
)
def test_wrong_words(mistake, command, words, expected):
    assert mistake(*command, *words.split()).startswith(expected)


def test_a_prompt_that_is_missing(mistake):
    assert mistake("generate").startswith("the following arguments are required: PROMPT (see tome generate --help)")


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (
            "~the circle~ and a square",
            "group must hold a thing and words that describe it, as in ~a red cat~, got '~the circle~'",
        ),
        ("a ~~ circle", "prompt must say something of a thing, such as 'a red cat' or ~...~, got 'a ~~ circle'"),
        ("a ~circle~", "group must hold a thing and words that describe it, as in ~a red cat~, got '~circle~'"),
        ("a circle", "prompt must say something of a thing, such as 'a red cat' or ~...~, got 'a circle'"),
        ("", "prompt must say something of a thing, such as 'a red cat' or ~...~, got ''"),
    ],
)
def test_a_prompt_in_which_nothing_can_be_bound(mistake, prompt, expected):
    assert mistake("bind", prompt) == f"{expected}\n"


def test_a_truncated_checkpoint(mistake, tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(CHECKPOINT.read_bytes()[:1_000_000])
    assert "truncated or damaged" in mistake(*GENERATE, "--model", path)


def test_a_checkpoint_of_another_kind(mistake, tmp_path):
    path = tmp_path / "style.safetensors"
    save_file({"lora_unet_mid_block.lora_down.weight": torch.zeros(2, 2)}, path)
    assert "is a LoRA; supported are" in mistake(*GENERATE, "--model", path)


def test_a_pickle(mistake, tmp_path):
    path = tmp_path / "model.ckpt"
    path.write_bytes(b"\x80\x04N.")
    assert "is a pickle" in mistake(*GENERATE, "--model", path)


def test_a_folder_that_is_no_model(mistake, tmp_path):
    (tmp_path / "pictures").mkdir()
    assert "is no diffusers folder" in mistake(*GENERATE, "--model", "pictures")


@pytest.fixture(scope="module")
def plain_model(tmp_path_factory) -> Path:
    """A diffusers folder whose UNet has no transformer blocks."""
    folder, configs = tmp_path_factory.mktemp("models") / "plain", narrow_configs("sd15")
    write_folder(folder, "sd15", configs)
    blocks = {"down_block_types": ("DownBlock2D",) * 4, "up_block_types": ("UpBlock2D",) * 4}
    UNet2DConditionModel(**(configs["unet"] | blocks), mid_block_type=None).save_pretrained(folder / "unet")
    return folder


@pytest.mark.parametrize("command", [GENERATE, BENCH], ids=["generate", "bench"])
def test_a_model_without_transformer_blocks(mistake, plain_model, command):
    told = mistake(*command, "--model", plain_model)
    assert "got UNet2DConditionModel of DownBlock2D, UpBlock2D" in told


@pytest.mark.parametrize(
    "words",
    [
        (*GENERATE, "--out", "file/a.png"),
        (*DEMO, "--out", "file/b"),
        (*DEMO, "--out", "file"),
        (*BENCH, "--json", "file/c.json"),
        (*BIND, "--out", "file/e"),
        (*QUALITY, "--sheet", "file/d.png"),
        (*QUALITY, "--cache", "file"),
    ],
    ids=[
        "generate",
        "demo below a file",
        "demo is a file",
        "bench",
        "bind",
        "quality below a file",
        "quality into a file",
    ],
)
def test_a_file_where_a_folder_should_be_is_told_before_any_work(mistake, tmp_path, monkeypatch, words):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setitem(sys.modules, "diffusers", None)  # which would be the next mistake
    assert mistake(*words).startswith("cannot write into file")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(mistake, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert mistake(*DEMO, "--out", "locked").startswith("cannot write into locked: Permission denied")


def test_weights_without_their_picture_tower(mistake, tmp_path):
    (tmp_path / "own.safetensors").symlink_to(CHECKPOINT)
    told = mistake(*QUALITY, "--checkpoint", "own.safetensors")
    assert told.startswith("checkpoint must have the picture tower tome-demo-clip.safetensors beside it")


def test_a_plot_without_matplotlib(mistake, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    told = mistake(*QUALITY, "--plot", "plot.png")
    assert told == "--plot needs matplotlib, which is not installed here: pip install 'tome-suite[plot]'\n"


@pytest.mark.parametrize(
    "command",
    [GENERATE, DEMO, BIND, BENCH, QUALITY],
    ids=["generate", "demo", "bind", "bench speed", "bench quality"],
)
@pytest.mark.parametrize("library", ["diffusers", "transformers"])
def test_a_library_that_is_not_installed(mistake, monkeypatch, command, library):
    monkeypatch.setitem(sys.modules, library, None)
    told = mistake(*command)
    assert told == f"this needs {library}, which is not installed here: pip install 'tome-suite[diffusers]'\n"
