"""The command as a whole, on few small pictures: what it tells and stores, and that it goes on where it was."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import joblib
import pytest
from PIL import Image

from tome_core.bench.drawing import runner
from tome_core.bench.quality import comparison
from tome_core.cli.bench import quality

QUICK = ("bench", "quality", "--size", 64, "--steps", 3, "--prompts", 2, "--seeds", 1)
QUICK += ("--processes", 1, "--rounds", 1)
TIMES = ("time_ratio", "time_ratio_min", "time_ratio_max")


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def drawn(folder: Path) -> set[Path]:
    """Return the batches that are kept below a folder."""
    return {path.parent for path in folder.rglob("_draw/*/output.pkl")}


def without_times(report: dict) -> dict:
    methods = [{name: value for name, value in found.items() if name not in TIMES} for found in report["methods"]]
    return report | {"methods": methods}


@pytest.fixture(autouse=True)
def short_gate(monkeypatch):
    monkeypatch.setattr(comparison, "PICTURES", 6)


@pytest.fixture(scope="module")
def drawn_before(tmp_path_factory) -> Path:
    """Where the pictures of earlier tests are, for those tests in which it does not matter who drew them."""
    return tmp_path_factory.mktemp("quality") / "pictures"


@pytest.fixture
def bench(tome, drawn_before):
    return lambda *words: tome(*QUICK, "--cache", drawn_before, *words)


def test_a_report_holds_what_was_asked_for_both_controls_the_gate_and_every_method(bench, tmp_path):
    told = bench("--methods", "ours:ratio=0.25,tomesd", "--json", "a/b.json")
    assert (told.code, told.err) == (0, "")
    report = read(tmp_path / "a" / "b.json")
    assert report["suite"]["name"] == "two-colours" and report["suite"]["split"] == "held-out"
    assert (report["suite"]["prompts"], report["suite"]["seeds"]) == (2, 1)
    assert report["settings"] == {"steps": 3, "guidance": 3.0, "size": 64}
    assert len(report["model"]["weights"]) == 64
    assert [(found["method"], found["role"]) for found in report["methods"]] == [
        ("untouched", "baseline"),
        ("positive-control", "control"),
        ("negative-control", "control"),
        ("ours:ratio=0.25", "method"),
        ("tomesd", "method"),
    ]
    for found in report["methods"]:
        assert found["pictures"] == 2
        assert {"fully_right", "presence", "binding_error", "leaked", "swapped", "missing", "extra"} <= set(found)
        assert found["time_ratio_min"] <= found["time_ratio"] <= found["time_ratio_max"]
        assert found["fair_bed"] is False
    assert [test["pictures"] for test in report["gate"]["tests"]] == [6, 6, 6]
    for found in report["methods"][1:]:
        assert found["psnr_db"] > 0 and found["latent_deviation"] > 0 and found["ssim"] < 1
    assert "† This model is no fair bed for merging." in told.out
    assert told.out.splitlines()[0].startswith(
        "two-colours, held-out: 2 prompts x 1 seeds, 64 pixels, 3 steps, weights "
    )


def test_the_same_command_again_draws_nothing_and_tells_the_same(tome, tmp_path, monkeypatch):
    words = (*QUICK, "--skip-gate", "--json", "a.json", "--markdown", "a.md")
    first = tome(*words)
    report, text = read(tmp_path / "a.json"), (tmp_path / "a.md").read_text()
    monkeypatch.setattr(runner, "_keep", lambda *_: pytest.fail("something was drawn again"))
    assert tome(*words) == first
    assert read(tmp_path / "a.json") == report
    assert (tmp_path / "a.md").read_text() == text
    assert text.strip() in first.out


def test_an_interrupted_run_goes_on_to_the_table_of_an_uninterrupted_one(tome, tmp_path, monkeypatch):
    words = (*QUICK, "--skip-gate", "--methods", "ours")
    keep, kept = runner._keep, []

    def interrupted(*given):
        if len(kept) == 2:
            raise KeyboardInterrupt
        kept.append(given)
        return keep(*given)

    monkeypatch.setattr(runner, "_keep", interrupted)
    told = tome(*words, "--cache", "cut", "--json", "cut.json")
    assert told.code == 130
    assert told.err == "tome: error: interrupted; what is drawn is kept in cut, and the same command goes on there\n"
    assert not (tmp_path / "cut.json").exists()
    assert len(drawn(tmp_path / "cut")) == 2
    monkeypatch.setattr(runner, "_keep", keep)
    for cache in ("cut", "new"):
        assert tome(*words, "--cache", cache, "--json", f"{cache}.json", "--markdown", f"{cache}.md").code == 0
    assert without_times(read(tmp_path / "cut.json")) == without_times(read(tmp_path / "new.json"))
    tables = [(tmp_path / f"{cache}.md").read_text().split(" x ")[0] for cache in ("cut", "new")]
    assert tables[0] == tables[1]


def test_another_method_finds_baseline_and_controls_drawn(tome, tmp_path):
    tome(*QUICK, "--skip-gate", "--methods", "untouched")
    before = drawn(tmp_path)
    tome(*QUICK, "--skip-gate", "--methods", "ours")
    assert len(before) == 3
    assert len(drawn(tmp_path) - before) == 1


def test_without_the_gate_it_is_said_that_nothing_is_known_of_the_bed(bench, tmp_path):
    told = bench("--skip-gate", "--json", "a.json")
    assert "† No fair bed for merging as far as is known: the binding gate was not run." in told.out
    report = read(tmp_path / "a.json")
    assert (report["gate"]["run"], report["methods"][0]["fair_bed"]) == (False, None)


def test_single_objects_need_neither_controls_nor_gate(bench, tmp_path):
    told = bench("--suite", "single", "--split", "seen", "--json", "a.json")
    report = read(tmp_path / "a.json")
    assert [found["method"] for found in report["methods"]] == ["untouched", "ours"]
    assert (report["gate"], report["methods"][0]["fair_bed"]) == (None, None)
    assert "fair bed" not in told.out


def test_settings_without_effect_are_told(bench):
    told = bench(
        "--suite", "single", "--split", "seen", "--skip-gate", "--methods", "ours:ratio=0,todo", "--parts", "mlp"
    )
    assert told.err.splitlines() == [
        "tome: note: --parts has no effect on todo, whose settings are kv_downsample, levels",
        "tome: note: --skip-gate has no effect: suite single has no binding figures, for which alone the gate is run",
        "tome: note: ours:ratio=0: ratio 0 leaves the model untouched: nothing is installed",
    ]


def test_a_suite_that_was_not_taught_and_cannot_be_judged_is_run_with_both_said(bench, tmp_path):
    told = bench("--suite", "object-binding", "--json", "a.json")
    assert told.code == 0
    assert told.err.splitlines() == [
        "tome: note: suite object-binding asks for things that wear something, which the weights of this package were "
        "not taught",
        "tome: note: the judge knows no accessory: only the distance to the untouched pictures is shown",
    ]
    report = read(tmp_path / "a.json")
    assert report["suite"]["untaught"] == "things that wear something"
    ours = report["methods"][-1]
    assert (ours["fully_right"], ours["binding_error"]) == (None, None)
    assert ours["psnr_db"] > 0
    assert report["gate"] is None  # there is no binding figure for it to stand beside
    assert "The weights of this package were not taught things that wear something." in told.out


def test_a_neutral_method_equals_the_untouched_pictures_in_everything(bench, tmp_path):
    bench("--skip-gate", "--methods", "ours:ratio=0", "--json", "a.json")
    untouched, *_, neutral = read(tmp_path / "a.json")["methods"]
    assert (neutral["equal_to_untouched"], neutral["psnr_db"], neutral["latent_deviation"]) == (2, None, 0)
    assert neutral["ssim"] == pytest.approx(1)
    assert neutral["fully_right"] == untouched["fully_right"]
    assert neutral["against_untouched"]["fully_right"] == {"difference": 0, "interval": [0, 0], "p": 1}


def test_a_plot_is_drawn(bench, tmp_path):
    told = bench("--skip-gate", "--plot", "figures.png")
    assert told.out.endswith("wrote figures.png\n")
    assert Image.open(tmp_path / "figures.png").width > 1000


def test_without_a_disagreement_there_is_no_sheet(bench, tmp_path):
    told = bench("--skip-gate", "--methods", "ours:ratio=0", "--sheet", "sheet.png")
    assert (
        told.err.splitlines()[-1]
        == "tome: note: no sheet is written: the methods agree on which pictures are fully right"
    )
    assert not (tmp_path / "sheet.png").exists()


def test_what_cannot_take_part_is_left_out_with_one_sentence(bench, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tomesd", None)
    told = bench("--skip-gate", "--methods", "tomesd,ours", "--json", "a.json")
    reason = "tomesd is not installed; to compare with it: pip install tomesd==0.1.3"
    assert (told.code, told.err) == (0, f"tome: note: tomesd is left out: {reason}\n")
    report = read(tmp_path / "a.json")
    assert report["left_out"] == [{"method": "tomesd", "reason": reason}]
    assert [found["method"] for found in report["methods"]][-1] == "ours"


def test_a_full_disk_is_said_in_one_line(tome, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(joblib.numpy_pickle, "dump", fail)
    told = tome(*QUICK, "--skip-gate")
    assert (told.code, told.out) == (2, "")
    assert told.err.startswith("tome: error: cannot write into tome-quality: ") and told.err.count("\n") == 1
    assert "No space left on device" in told.err


@pytest.mark.parametrize("missing", ["scipy", "joblib"])
def test_a_missing_library_is_named_in_one_line(tome, monkeypatch, missing):
    monkeypatch.setattr(quality, "find_spec", lambda name: None if name == missing else find_spec(name))
    assert tome(*QUICK) == (
        2,
        "",
        f"tome: error: this needs {missing}, which is not installed here: pip install 'tome-suite[bench]'\n",
    )
