"""Pictures drawn several at a time: the same as one by one, timed apart, and stopped by an interrupt."""

import threading
import time
from itertools import count

import pytest
import torch
from PIL import Image

from tome_core.bench.clock import Clock, Seconds
from tome_core.cli import comparison, console
from tome_core.cli.comparison import Column, Comparison, compare
from tome_core.cli.models import DEMO, one_thread, pictures_at_once
from tome_core.cli.sampling import Drawn, Request
from tome_core.speed import SpeedConfig, SpeedReport

CPU = torch.device("cpu")
MERGED = SpeedConfig(ratio=0.5, levels=(1, 2))
ROWS = [(Request(prompt, 2, 64, 64, 3.0), 7) for prompt in ("a red square", "a blue star", "a green cross")]


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(console, "_LINE_EVERY", float("inf"))


@pytest.fixture
def thread_of_torch():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def latents(result: Comparison) -> list[list[torch.Tensor]]:
    return [[drawn.latents for drawn in column.drawn] for column in result.columns]


def test_several_at_a_time_are_bit_for_bit_those_drawn_one_by_one(demo_model, traces):
    before = traces(demo_model.unet)
    with one_thread(DEMO, CPU):
        alone = compare(demo_model, [("merged", MERGED)], ROWS)
        together = compare(demo_model, [("merged", MERGED)], ROWS, threads=4)
    assert [len(column.drawn) for column in together.columns] == [3, 3]
    for one, other in zip(latents(alone), latents(together), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(latents(together)[0][0], latents(together)[1][0])
    assert traces(demo_model.unet) == before


def test_an_interrupt_stops_every_thread_and_keeps_the_whole_rows(demo_model, monkeypatch):
    whole, calls, running = comparison.draw, count(), threading.active_count()

    def interrupted(*words):
        if next(calls) == 4:  # the first is to warm up, two are a row
            raise KeyboardInterrupt
        return whole(*words)

    monkeypatch.setattr(comparison, "draw", interrupted)
    result = compare(demo_model, [("merged", MERGED)], ROWS * 4, threads=2)
    assert (result.rows, result.asked) == (1, 12)
    assert [len(column.drawn) for column in result.columns] == [1, 1]
    assert next(calls) < 12  # of 25
    assert threading.active_count() == running


def test_the_time_of_a_picture_leaves_out_the_other_threads(demo_model, monkeypatch):
    def spin(pipeline, request, seeds, clock, on_step):
        start, end = clock(), time.thread_time() + 0.05
        while time.thread_time() < end:
            pass
        return Drawn([Image.new("RGB", (8, 8))], torch.ones(1, 4, 1, 1), clock() - start)

    monkeypatch.setattr(comparison, "draw", spin)
    result = compare(demo_model, [("merged", MERGED)], ROWS, threads=4)
    assert all(0.05 <= result.clock.figure(drawn.seconds) < 0.1 for column in result.columns for drawn in column.drawn)


def test_figures_are_medians_over_the_rows():
    def column(name: str, times: list[float]) -> Column:
        picture, latents = Image.new("RGB", (8, 8)), torch.ones(1, 4, 1, 1)
        drawn = [Drawn([picture], latents, Seconds(seconds, 10 * seconds)) for seconds in times]
        return Column(name, SpeedConfig(), SpeedReport("", SpeedConfig(), "block", ()), drawn)

    untouched, merged = column("untouched", [1.0, 2.0, 4.0]), column("merged", [0.5, 3.0, 2.0])
    figures = Comparison([untouched, merged], Clock(CPU), 3).as_dict()["columns"]
    assert [column["seconds_per_picture"] for column in figures] == [2.0, 2.0]
    assert [column["wall_seconds_per_picture"] for column in figures] == [20.0, 20.0]
    assert [column["time_ratio"] for column in figures] == [1.0, 0.5]
    assert [(column["psnr_db"], column["latent_deviation"]) for column in figures] == [(None, 0), (None, 0)]


def test_the_demo_model_takes_one_thread_unless_the_user_says_otherwise(monkeypatch, thread_of_torch):
    torch.set_num_threads(2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with one_thread(DEMO, CPU):
        assert torch.get_num_threads() == 1
        assert pictures_at_once(DEMO, CPU) == 4
        assert pictures_at_once("model.safetensors", CPU) == 1
    assert torch.get_num_threads() == 2
    with one_thread("model.safetensors", CPU):
        assert torch.get_num_threads() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with one_thread(DEMO, CPU):
        assert torch.get_num_threads() == 2
        assert pictures_at_once(DEMO, CPU) == 1
