"""The command as a whole, for what it tells and stores, not for its times."""

import json
import re
import sys

import pytest
import torch

from tome_core.bench.clock import Seconds
from tome_core.bench.drawing.sampling import Settings
from tome_core.bench.methods.merging import Merging
from tome_core.bench.speed import comparison, demo_pictures
from tome_core.bench.suites import load_suite
from tome_core.speed import SpeedConfig

QUICK = ("bench", "speed", "--size", 64, "--repeats", 2)


def test_results_hold_what_was_run_and_every_method(tome, tmp_path):
    methods = "ours,ours:levels=1+2,parts=attention+mlp,tomesd"
    told = tome(*QUICK, "--methods", methods, "--ratio", 0.25, "--json", "a/b.json")
    assert (told.code, told.err) == (0, "")
    results = json.loads((tmp_path / "a" / "b.json").read_text())
    assert (results["model"], results["size"], results["dtype"], results["rounds"]) == ("demo", [64, 64], "float32", 2)
    assert (results["batch"], results["device"], results["clock"]) == (2, "cpu", "processor")
    assert results["machine"]["torch"] == torch.__version__
    names = ["untouched", "ours", "ours:levels=1+2,parts=attention+mlp", "tomesd"]
    assert [method["method"] for method in results["methods"]] == names
    untouched, ours, more, tomesd = results["methods"]
    assert (untouched["time_ratio"], untouched["deviation"], untouched["merges"]) == (1, 0, False)
    for method in (ours, more, tomesd):
        assert method["merges"]
        assert method["deviation"] > 0
        assert method["time_ratio_min"] <= method["time_ratio"] <= method["time_ratio_max"]
        assert len(method["seconds_by_round"]) == len(method["wall_seconds_by_round"]) == 2
    assert SpeedConfig(**ours["config"]) == SpeedConfig(ratio=0.25)
    assert more["tokens"][1] == {"level": 2, "attention": [12], "cross_attention": [16], "mlp": [12], "keys": [12]}


def test_times_and_tokens_are_told(tome):
    methods = "ours,tomesd:parts=attention+cross_attention+mlp"
    told = tome(*QUICK, "--levels", "1,2", "--methods", methods)
    about, *times, _, head, untouched, ours, tomesd = told.out.splitlines()
    assert about.startswith("demo, 64 x 64 pixels, 2 rows, float32, cpu (")
    assert [line.split()[0] for line in times] == ["time", "untouched", *methods.split(",")]
    assert [" ".join(line.split()) for line in (head, untouched, ours, tomesd)] == [
        "tokens level 1: 64 level 2: 16 level 3: 4 level 4: 1",
        "untouched all all all all",
        "ours 32 in attention 8 in attention all all",
        f"{methods.split(',')[1]} 32 in every part 8 in every part all all",
    ]


def test_a_method_that_merges_nothing_is_told_as_such(tome, tmp_path):
    told = tome(*QUICK, "--methods", "ours:levels=4", "--json", "a.json")
    assert "tome: note: ours:levels=4 merges nothing on this model at this size" in told.err
    assert not json.loads((tmp_path / "a.json").read_text())["methods"][1]["merges"]


def test_a_method_that_merges_keys_alone_is_not_told_to_merge_nothing(tome, tmp_path):
    told = tome(*QUICK, "--methods", "ours:ratio=0,kv_ratio=0.5", "--json", "a.json")
    assert (told.code, told.err) == (0, "")
    assert json.loads((tmp_path / "a.json").read_text())["methods"][1]["merges"]
    assert told.out.splitlines()[-1].split()[1:4] == ["32", "in", "keys"]


def test_a_method_that_merges_in_a_part_of_the_run_is_told_with_its_gain_over_all_of_it(tome, tmp_path, monkeypatch):
    def half(ways, call, rounds, clock, on_call):
        return [[Seconds(2.0, 2.0), *[Seconds(1.0, 1.0)] * (len(ways) - 1)]] * rounds, True

    monkeypatch.setattr(comparison, "take_turns", half)
    told = tome(*QUICK, "--methods", "ours,ours:start_percent=0.2,end_percent=0.9", "--json", "a.json")
    assert (told.code, told.err) == (0, "")
    _, whole, part = json.loads((tmp_path / "a.json").read_text())["methods"]
    assert (whole["run_time_ratio"], part["run_time_ratio"]) == (0.5, pytest.approx(0.65))
    assert [line.split()[-1] for line in told.out.splitlines()[1:5]] == ["run", "1", "0.500", "0.650"]


def test_a_method_that_merges_throughout_has_one_ratio_however_small(tome, tmp_path, monkeypatch):
    def fast(ways, call, rounds, clock, on_call):
        return [[Seconds(1.0, 1.0), *[Seconds(0.3, 0.3)] * (len(ways) - 1)]] * rounds, True

    monkeypatch.setattr(comparison, "take_turns", fast)
    told = tome(*QUICK, "--methods", "ours", "--json", "a.json")
    _, ours = json.loads((tmp_path / "a.json").read_text())["methods"]
    assert ours["run_time_ratio"] == ours["time_ratio"] == 0.3
    assert "whole run" not in told.out


@pytest.mark.parametrize(("part", "told_part"), [("start_percent=0.6", "0.6 to 1"), ("end_percent=0.4", "0 to 0.4")])
def test_a_method_that_does_not_merge_where_the_timed_call_is_is_told_as_such(tome, tmp_path, part, told_part):
    told = tome(*QUICK, "--methods", f"ours:{part}", "--json", "a.json")
    sentence = f"merges from {told_part} of a run: the call that is timed is at 0.5, where it merges nothing"
    assert told.err == f"tome: note: ours:{part} {sentence}\n"
    assert json.loads((tmp_path / "a.json").read_text())["methods"][1]["run_time_ratio"] is None


def test_what_cannot_take_part_is_left_out_with_one_sentence(tome, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tomesd", None)
    told = tome(*QUICK, "--json", "a.json")
    assert told.code == 0
    reason = "tomesd is not installed; to compare with it: pip install tomesd==0.1.3"
    assert told.err == f"tome: note: tomesd is left out: {reason}\n"
    results = json.loads((tmp_path / "a.json").read_text())
    assert [method["method"] for method in results["methods"]] == ["untouched", "ours"]
    assert results["left_out"] == [{"method": "tomesd", "reason": reason}]


def test_a_peer_that_fails_on_a_size_is_left_out(tome):
    """tomesd reckons the size of a level from its number of tokens, and errs on odd ones."""
    told = tome("bench", "speed", "--size", "184x136", "--repeats", 1, "--methods", "ours,tomesd:levels=1+2+3+4")
    assert told.code == 0
    assert "tome: note: tomesd:levels=1+2+3+4 is left out: it fails on this model and size with " in told.err


def test_a_failure_of_ours_is_no_reason_to_leave_ours_out(tome, monkeypatch):
    def fail(*_):
        raise RuntimeError("a defect")

    monkeypatch.setattr(comparison, "probe", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        tome(*QUICK)


def test_an_interrupt_keeps_the_rounds_that_are_done(tome, tmp_path, monkeypatch):
    def interrupted(ways, call, rounds, clock, on_call):
        return whole(ways, call, 1, clock, on_call)[0], False

    whole = comparison.take_turns
    monkeypatch.setattr(comparison, "take_turns", interrupted)
    told = tome(*QUICK, "--methods", "ours", "--json", "a.json")
    assert told.code == 130
    assert told.err == "tome: error: interrupted after 1 of 2 rounds; the figures above are of those\n"
    assert "ours" in told.out
    assert json.loads((tmp_path / "a.json").read_text())["rounds"] == 1


def test_a_ceiling_tells_how_much_of_the_possible_gain_is_reached(tome, tmp_path, monkeypatch):
    def known(ways, call, rounds, clock, on_call):
        return [[Seconds(x, x) for x in (4.0, 2.0, 3.0, 3.0, 1.0)]] * rounds, True  # the ceiling of the block last

    monkeypatch.setattr(comparison, "take_turns", known)
    told = tome(*QUICK, "--ceiling", "--methods", "ours:parts=block,levels=1+2,todo,tomesd", "--json", "a.json")
    assert told.code == 0
    untouched, block, todo, tomesd = json.loads((tmp_path / "a.json").read_text())["methods"]
    assert (untouched["flop_ratio"], untouched["time_ceiling_ratio"]) == (1, None)
    assert block["ceiling_ratio"] < block["flop_ratio"] < 1  # the matching counts its own
    assert (block["time_ratio"], block["time_ceiling_ratio"]) == (0.5, 0.25)
    assert block["share_of_ceiling_gain"] == pytest.approx(2 / 3)
    assert 0 < block["overhead_share"] < 1
    assert todo["flop_ratio"] < 1
    assert 0 < block["peak_bytes"] < untouched["peak_bytes"]
    for other in (todo, tomesd):  # a strided slice is its own ceiling
        assert (other["time_ceiling_ratio"], other["share_of_ceiling_gain"], other["overhead_share"]) == (None,) * 3
    assert "gain reached" in told.out


def test_todo_keeps_every_query_and_a_quarter_of_the_keys(tome, tmp_path):
    tome(*QUICK, "--methods", "todo", "--json", "a.json")
    _, todo = json.loads((tmp_path / "a.json").read_text())["methods"]
    assert (todo["config"]["ratio"], todo["config"]["kv_downsample"]) == (0, 2)
    assert todo["deviation"] > 0


def test_beside_the_times_stands_what_each_method_does_to_pictures_of_the_demo_model(tome, tmp_path, monkeypatch):
    monkeypatch.setattr(demo_pictures, "SETTINGS", Settings(steps=2, guidance=3.0, size=64))
    methods = "ours,ours:ratio=0.05,tomesd"
    told = tome(*QUICK, "--methods", methods, "--demo-prompts", 5, "--json", "a.json")
    assert (told.code, told.err) == (0, "")
    untouched, half, little, tomesd = (m["demo"] for m in json.loads((tmp_path / "a.json").read_text())["methods"])
    assert untouched == {"pictures": 5, "steps": 2, "size": 64, "psnr_db": None, "latent_deviation": 0}
    assert half["latent_deviation"] > little["latent_deviation"] > 0 < tomesd["latent_deviation"]
    assert half["psnr_db"] < little["psnr_db"]
    assert f"{half['psnr_db']:.1f} dB {half['latent_deviation']:.4f}" in re.sub(" +", " ", told.out)


def test_without_prompts_nothing_is_told_of_the_demo_model(tome, tmp_path):
    assert "demo PSNR" not in tome(*QUICK, "--methods", "ours", "--json", "a.json").out
    assert [method["demo"] for method in json.loads((tmp_path / "a.json").read_text())["methods"]] == [None, None]


def test_an_interrupt_keeps_the_methods_whose_pictures_are_drawn(tome, tmp_path, monkeypatch):
    whole = Merging.draw

    def interrupted(self, *given):
        if self.name == "tomesd":
            raise KeyboardInterrupt
        return whole(self, *given)

    monkeypatch.setattr(demo_pictures, "SETTINGS", Settings(steps=1, guidance=3.0, size=64))
    monkeypatch.setattr(Merging, "draw", interrupted)
    told = tome(*QUICK, "--methods", "ours,tomesd", "--demo-prompts", 1, "--json", "a.json")
    assert told.code == 130
    assert told.err == "tome: error: interrupted after 2 of 2 rounds; the figures above are of those\n"
    found = json.loads((tmp_path / "a.json").read_text())["methods"]
    assert [method["demo"] is None for method in found] == [False, False, True]


def test_the_demo_models_prompts_are_as_many_as_may_be_asked_for():
    suite = load_suite(demo_pictures.SUITE)
    assert len(suite.parts["seen"]) == demo_pictures.MOST_PROMPTS
