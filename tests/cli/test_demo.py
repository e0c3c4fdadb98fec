"""The sheet of the demo model and its report."""

import json
from itertools import count

import pytest
from PIL import Image

from tome_core.cli import comparison, demo, main, models
from tome_core.demo import DEMO_PROMPTS

QUICK = ("demo", "--size", 64, "--steps", 1)


def interrupted_at(call: int, draw):
    """Return `draw` with an interrupt in place of that call, counted from 1."""
    calls = count(1)

    def interrupted(*words):
        if next(calls) == call:
            raise KeyboardInterrupt
        return draw(*words)

    return interrupted


@pytest.fixture(scope="module")
def report(demo_model, tmp_path_factory) -> dict:
    """The report of one sheet, for all tests that only read it."""
    folder = tmp_path_factory.mktemp("sheet") / "a" / "b"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load_demo", lambda **_: demo_model)
        words = (*QUICK, "--levels", "1,2", "--device", "cpu", "--out", folder)
        assert main([str(word) for word in words]) == 0
    return json.loads((folder / "report.json").read_text())


def test_the_report_holds_every_figure_of_every_column(report):
    names = [column["name"] for column in report["columns"]]
    assert names == ["untouched", "ratio 0.5", "ratio 0.75"]
    for column in report["columns"]:
        grids = {level["level"]: level["grids"] for level in column["report"]["levels"]}
        if column["name"] != "untouched":
            assert column["latent_deviation"] > 0
            after = {level: grids[level][0]["tokens_after"] for level in (1, 2)}
            kept = 1 - column["ratio"]
            assert after == {1: 64 * kept, 2: 16 * kept}
    assert report["columns"][0]["time_ratio"] == 1
    assert (report["columns"][0]["psnr_db"], report["columns"][0]["latent_deviation"]) == (None, 0)


def test_the_report_tells_what_was_asked_for_and_on_what(report):
    assert report["settings"]["prompts"] == list(DEMO_PROMPTS)
    assert (report["settings"]["width"], report["settings"]["steps"], report["settings"]["seed"]) == (64, 1, 0)
    assert set(report["untaught_words"]) == set(DEMO_PROMPTS)
    assert report["machine"]["torch"]
    assert report["clock"] == "processor"


def test_the_sheet_has_a_row_a_prompt_and_a_column_a_ratio(tome, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        demo.Comparison, "sheet", lambda self, *words: drawn.append((self, words)) or Image.new("RGB", (8, 8))
    )
    tome(*QUICK, "--ratios", "0.25", "--prompts", "a red square", "a blue circle")
    drawn_comparison, (_, labels, footer) = drawn[0]
    assert labels == ["a red square", "a blue circle"]
    assert [len(column.drawn) for column in drawn_comparison.columns] == [2, 2]
    assert "64 x 64 pixels · 1 steps · seed 0" in footer


def test_a_table_and_the_file_to_open_are_told(tome, tmp_path):
    told = tome(*QUICK, "--ratios", "0.5,0.75", "--prompts", "a red square")
    head, untouched, half, most, *rest = told.out.splitlines()
    assert head.split() == ["CPU", "seconds", "time", "tokens", "at", "level", "1", "PSNR", "latent", "deviation"]
    assert untouched.split()[0] == "untouched"
    assert "64 -> 32" in half
    assert "64 -> 16" in most
    path = tmp_path / "tome-demo" / "grid.png"
    assert rest[-1] == "Open tome-demo/grid.png"
    assert Image.open(path).width > 3 * 240


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ({"attention": 64}, "64"),
        ({"attention": 32, "mlp": 48}, "64 -> 32"),
        ({"attention": 32, "keys": 16}, "64 -> 32, 16 keys"),
        ({"attention": 64, "keys": 16}, "64, 16 keys"),
        ({"keys": 16}, "64, 16 keys"),
        ({"attention": 32, "mlp": 16, "keys": 32}, "64 -> 16"),
    ],
)
def test_keys_are_told_apart_from_tokens(kept, told):
    assert comparison._cell(comparison.LevelTokens.of(64, kept)) == told


def test_a_setting_that_is_named_turns_presets_into_ratios(tome, tmp_path):
    assert tome(*QUICK, "--metric", "latent", "--prompts", "a red square").code == 0
    columns = json.loads((tmp_path / "tome-demo" / "report.json").read_text())["columns"]
    assert [column["name"] for column in columns] == ["untouched", "ratio 0.5", "ratio 0.75"]


def test_with_nothing_named_there_is_a_column_a_preset(tome, tmp_path):
    assert tome(*QUICK, "--steps", 4, "--prompts", "a red square", "--strength", 0.5).code == 0
    columns = json.loads((tmp_path / "tome-demo" / "report.json").read_text())["columns"]
    assert [column["name"] for column in columns] == ["untouched", "gentle x 0.5", "balanced x 0.5", "fast x 0.5"]
    assert all(column["latent_deviation"] > 0 for column in columns[1:])


def test_a_preset_says_that_a_small_picture_has_too_few_tokens_unless_it_is_made_to_merge_them(tome, tmp_path):
    words = (*QUICK, "--steps", 4, "--prompts", "a red square", "--preset", "fast")
    assert "note: level 2: 4x4 tokens are fewer than min_tokens 64, nothing merges" in tome(*words).out
    assert "min_tokens" not in tome(*words, "--min-tokens", 0).out
    _, fast = json.loads((tmp_path / "tome-demo" / "report.json").read_text())["columns"]
    assert fast["latent_deviation"] > 0


def test_an_interrupt_keeps_the_rows_that_are_whole(tome, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "draw", interrupted_at(call=1 + 2 * 2, draw=comparison.draw))  # 1 to warm up
    told = tome(*QUICK, "--ratios", "0.5", "--prompts", "a red square", "a blue circle", "a green star")
    assert told.code == 130
    assert told.err == "tome: error: interrupted after 1 of 3 rows; the sheet and the figures are of those\n"
    report = json.loads((tmp_path / "tome-demo" / "report.json").read_text())
    assert report["settings"]["prompts"] == ["a red square"]
    sheet = Image.open(tmp_path / "tome-demo" / "grid.png")
    assert 240 < sheet.height < 2 * 240


def test_an_interrupt_before_the_first_row_is_whole_leaves_nothing(tome, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "draw", interrupted_at(call=3, draw=comparison.draw))
    assert tome(*QUICK, "--ratios", "0.5") == (130, "", "tome: error: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_the_matching_and_the_metric_can_be_chosen(tome, tmp_path):
    told = tome(*QUICK, "--ratios", "0.5", "--prompts", "a red square", "--matching", "window", "--metric", "latent")
    assert told.code == 0
    config = json.loads((tmp_path / "tome-demo" / "report.json").read_text())["columns"][1]["report"]["config"]
    assert (config["matching"], config["metric"]) == ("window", "latent")


def test_two_runs_draw_the_same_pictures(tome, monkeypatch):
    seen = []
    monkeypatch.setattr(demo, "write_png", lambda *_: None)
    monkeypatch.setattr(
        demo.Comparison, "as_dict", lambda self: seen.append([c.drawn[0].latents for c in self.columns]) or {}
    )
    for _ in range(2):
        tome(*QUICK, "--prompts", "a red square")
    assert all((first == second).all() for first, second in zip(*seen, strict=True))


def test_words_that_were_not_taught_are_named(tome, tmp_path):
    told = tome(*QUICK, "--ratios", "0.5", "--prompts", "a red dog", "a blue CAT")
    assert told.err.startswith("tome: note: the demo model was not taught 'dog', 'cat'; ")
    assert json.loads((tmp_path / "tome-demo" / "report.json").read_text())["untaught_words"] == {
        "a red dog": ["dog"],
        "a blue CAT": ["cat"],
    }


def test_a_setting_without_effect_is_noted(tome):
    told = tome(*QUICK, "--ratios", "0.01", "--levels", "4", "--prompts", "a red square")
    assert "\nnote: level 4: ratio 0.01 of 1x1 tokens is less than one token" in told.out
