"""What a report says of each level and setting, before a run and after it."""

import json
import re
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch.utils.flop_counter import FlopCounterMode

from tome_core.merging import MergePlan
from tome_core.speed import LevelReport, SpeedConfig, SpeedReport, apply_speed
from tome_core.speed.layouts.points import Argument, Block, CallConvention, Layout, Level, Part, Stack

CALL = CallConvention(Argument("x", 0))
BLOCK = Block("block", CALL, (Part("attention", "block.attn1", CALL), Part("mlp", "block.ff", CALL)))
LAYOUT = Layout(
    "UNet", "sdxl", (Level(1, 2), Level(2, 4)), (Stack("s1", 1, (BLOCK,) * 5), Stack("s2", 2, (BLOCK,) * 15))
)
CAP = "ratio 0.9 is above what stride 2x2 allows: at most 0.75 of the tokens merge; a larger stride allows more"


def new_report(**settings: Any) -> SpeedReport:
    return SpeedReport.before_calls(LAYOUT, SpeedConfig(**settings))


def test_a_report_says_for_each_level_how_many_tokens_go_in_and_come_out():
    report = new_report(ratio=0.5)
    report.record(1, (5, 7), "attention", 18, 16)
    assert "5x7" in str(report)
    assert "35 -> 18" in str(report)
    ((grid,), nothing) = (level["grids"] for level in report.as_dict()["levels"])
    assert grid.pop("work_saved") == pytest.approx(report.levels[0].work_saved((5, 7)), abs=1e-4)
    assert grid == {
        "height": 5,
        "width": 7,
        "tokens_before": 35,
        "tokens_after": 18,
        "tokens_by_part": {"attention": 18},
    }
    assert nothing == []
    assert report.notes == []


def test_before_the_first_call_a_report_says_that_there_was_none():
    assert "no call yet" in str(new_report())
    assert "not chosen" in str(new_report())


def test_every_size_that_was_met_is_kept():
    report = new_report()
    report.record(1, (8, 8), "attention", 32, 16)
    report.record(1, (16, 16), "attention", 128, 16)
    assert [grid["tokens_after"] for grid in report.as_dict()["levels"][0]["grids"]] == [32, 128]


def test_a_sentence_is_kept_once():
    report = new_report()
    report.note("once")
    report.note("once")
    assert report.notes == ["once"]


def test_calls_that_merged_are_counted_apart_from_those_that_did_not():
    report = new_report()
    for merged in (True, False, True):
        report.count(merged=merged)
    assert (report.merged_calls, report.untouched_calls) == (2, 1)


@pytest.mark.parametrize(
    ("settings", "grid", "kept", "sentence"),
    [
        (
            {"ratio": 0.75, "matching": "window"},
            (5, 7),
            17,
            "level 1: ratio 0.75 of 5x7 .* 26 to merge, .* allows 18",
        ),
        (
            {"ratio": 0.1},
            (1, 9),
            9,
            "level 1: ratio 0.1 of 1x9 tokens is less than one token, nothing merges; .* effect",
        ),
        (
            {"ratio": 0.5},
            (1, 9),
            9,
            "level 1: 1x9 tokens hold no 2x2 cell, nothing merges; a smaller stride has an effect",
        ),
    ],
)
def test_less_than_was_asked_for_is_said_with_its_reason(settings, grid, kept, sentence):
    report = new_report(**settings)
    report.record(1, grid, "attention", kept, 16)
    assert len(report.notes) == 1
    assert re.match(sentence, report.notes[0])


def test_a_level_that_is_too_small_is_said_once_a_size():
    report = new_report(min_tokens=100)
    for grid in ((8, 8), (8, 8), (4, 8)):
        report.note_small(1, grid)
    reason = "fewer than min_tokens 100, nothing merges; a larger image or a smaller min_tokens has an effect"
    assert report.notes == [f"level 1: {size} tokens are {reason}" for size in ("8x8", "4x8")]


IDLE = [
    ({"ratio": 0.9}, CAP),
    ({"seed": 1, "matching": "window"}, "seed has no effect on window matching, which draws nothing; it has one on "),
    ({"refresh": 2, "metric": "block"}, "refresh has no effect on metric block: each block matches on its own input"),
    (
        {"parts": ("attention", "cross_attention")},
        "cross_attention has no effect: the blocks of the chosen levels have ",
    ),
    ({"ratio": 0}, "ratio 0 leaves the model untouched: nothing is installed"),
]


@pytest.mark.parametrize(("settings", "sentence"), IDLE)
def test_a_setting_without_effect_is_said_before_the_first_call(settings, sentence):
    (note,) = new_report(**settings).notes
    assert note.startswith(sentence)


@pytest.mark.parametrize("settings", [{}, {"ratio": 0.75}, {"seed": 1}, {"refresh": 2}, {"parts": "block"}])
def test_nothing_is_said_of_settings_that_have_their_effect(settings):
    assert new_report(**settings).notes == []


def test_a_report_can_be_stored_as_json():
    report = new_report(ratio=0.9, seed=3)
    report.record(1, (8, 8), "attention", 16, 16)
    stored = json.loads(json.dumps(report.as_dict()))
    assert stored["config"]["ratio"] == 0.9
    assert stored["levels"][1] == {"level": 2, "downsample": 4, "blocks": 15, "chosen": False, "grids": []}
    assert stored["notes"] == report.notes


def test_the_reports_of_runs_add_up_to_that_of_all():
    total = new_report(ratio=0.9)
    before = total.of_one_run()
    for size, kept in (((8, 8), 16), ((4, 4), 4), ((8, 8), 16)):
        run = before.of_one_run()
        assert (run.merged_calls, run.notes, run.levels[0].kept) == (0, [CAP], {})
        run.record(1, size, "attention", kept, 16)
        run.note(f"of {size[0]}")
        run.count(merged=True)
        total.add(run)
    assert total.merged_calls == 3
    assert total.levels[0].kept == {(8, 8): {"attention": 16}, (4, 4): {"attention": 4}}
    assert [note for note in total.notes if note.startswith("of ")] == ["of 8", "of 4"]
    assert total.levels[0].work_saved((8, 8)) > 0


def test_neutral_settings_are_off_without_more_words():
    assert new_report(ratio=0).expectation() == "Off: the model stays untouched."


def test_before_a_run_it_says_where_and_how_much():
    assert new_report(levels=(1, 2)).expectation() == (
        "Will merge 50% of the tokens in attention at level 1 (5 of 20 blocks), level 2 (15 of 20 blocks)."
    )
    assert new_report(start_percent=0.2).expectation().endswith("from 20% to 100% of the run.")
    for settings, keys in (
        ({"kv_downsample": 2}, "all keys but one of each 2 x 2"),
        ({"kv_ratio": 0.75}, "75% in keys"),
    ):
        assert f"50% of the tokens in attention, {keys} at level 1" in new_report(**settings).expectation()


def test_after_a_run_it_says_what_ran_on_how_many_tokens_and_what_that_saved():
    done = new_report(ratio=0.25, kv_ratio=0.5)
    done.merged_calls = done.untouched_calls = 10
    done.record(1, (64, 64), "attention", 3072, 320)
    done.record(1, (64, 64), "keys", 2048, 320)
    saved = f"{done.levels[0].work_saved((64, 64)):.0%}"
    assert done.result().splitlines() == [
        "Merged tokens in 10 of 20 model calls.",
        f"Level 1 (5 blocks), 4096 tokens: attention ran on 3072, keys on 2048. These blocks compute {saved} less.",
    ]
    assert f"level 1, 64x64: {saved} of the blocks' operations saved" in str(done)


def test_a_size_at_which_nothing_merges_is_said():
    done = new_report()
    done.count(merged=True)
    done.record(1, (1, 9), "attention", 9, 16)
    assert "Level 1 (5 blocks), 9 tokens: nothing to merge at this size." in done.result()


def test_what_has_no_effect_is_said_before_and_after():
    idle = new_report(ratio=0.9)
    idle.untouched_calls = 4
    assert idle.expectation().splitlines()[1:] == [f"Note: {CAP}."]
    assert idle.result().splitlines() == ["Nothing merged in 4 model calls.", f"Note: {CAP}."]
    idle.notes.clear()
    assert idle.result() == "Nothing merged in 4 model calls. Try a larger image, more steps or a higher ratio."


FORMS = [
    {},
    {"parts": ("attention", "cross_attention", "mlp"), "mlp_ratio": 0.25},
    {"parts": "block"},
    {"kv_downsample": 2, "ratio": 0.0},
    {"kv_ratio": 0.75},
    {"parts": "mlp"},
]


@pytest.fixture(scope="module")
def sd15_level() -> UNet2DConditionModel:
    """The finest level of Stable Diffusion 1.5, with attention of plain matrix products, which can be counted."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(320,),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        mid_block_type=None,
        cross_attention_dim=768,
        attention_head_dim=8,  # heads, in fact
    )  # type: ignore[call-arg]
    unet.set_attn_processor(AttnProcessor())
    return unet.eval().requires_grad_(False)


def match(metric: torch.Tensor, height: int, width: int, r: int) -> MergePlan:
    """Merge the last tokens into one, without a product that would count."""
    kept = height * width - r
    representatives = torch.arange(height * width).clamp(max=kept - 1).repeat(len(metric), 1)
    return MergePlan.from_representatives(representatives, kept)


def operations(unet: UNet2DConditionModel, config: SpeedConfig, side: int) -> tuple[int, int, LevelReport]:
    """Return the operations of one block, those of its text's keys and values, and the report of its level."""
    x, text = torch.zeros(1, 4, side, side), torch.zeros(1, 77, 768)
    with apply_speed(unet, config, matcher=match) as handle, FlopCounterMode(display=False) as counter:
        unet(x, 500, text)
    block = "UNet2DConditionModel.down_blocks.0.attentions.0.transformer_blocks.0"
    counts = {name: sum(found.values()) for name, found in counter.get_flop_counts().items()}
    of_text = counts[f"{block}.attn2.to_k"] + counts[f"{block}.attn2.to_v"]
    return counts[block], of_text, handle.report.levels[0]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_work_saved_is_that_of_all_products_but_the_constant_ones_of_the_text(sd15_level, form):
    untouched, of_text, _ = operations(sd15_level, SpeedConfig(ratio=0), 16)
    merged, _, level = operations(sd15_level, SpeedConfig(metric="latent", **form), 16)
    assert level.work_saved((16, 16)) == pytest.approx(1 - (merged - of_text) / (untouched - of_text), rel=1e-6)
    assert level.work_saved((16, 16)) > 0.03


def test_on_larger_grids_the_work_saved_is_that_of_the_whole_block(sd15_level):
    untouched, _, _ = operations(sd15_level, SpeedConfig(ratio=0), 32)
    merged, _, level = operations(sd15_level, SpeedConfig(metric="latent", parts="block"), 32)
    assert level.work_saved((32, 32)) == pytest.approx(1 - merged / untouched, rel=0.02)
