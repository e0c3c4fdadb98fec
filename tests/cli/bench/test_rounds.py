"""Times of methods, with a clock that the test sets."""

from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest
import torch

from tome_core.cli.bench.rounds import ROUNDS, time_methods
from tome_core.cli.machine import Clock, Seconds
from tome_core.evaluation.cases import Case
from tome_core.evaluation.quality import Easel, Method, Model, Spread, Store
from tome_core.evaluation.sampling import Drawn, Settings

CASE = Case((("red", "square"),), "a red square", 0)


class Watch(Clock):
    """Only drawing takes time on it."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.now = 0.0

    def __call__(self) -> Seconds:
        return Seconds(self.now, 1000 - self.now)


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def easel(tmp_path, monkeypatch) -> Easel:
    monkeypatch.setattr(Model, "open", lambda self: None)
    return Easel(Model(), Settings(1, 3.0, 64), Store(tmp_path))


def method(name: str, watch: Watch, costs: Sequence[float], drawn: list[str]) -> Method:
    """Return a method that takes so long in each round."""
    rounds = count()

    def draw(pipeline: Any, cases: Sequence[Case], settings: Settings) -> Drawn:
        drawn.append(name)
        watch.now += costs[next(rounds)]
        return Drawn(*[None] * 2)  # type: ignore[arg-type]

    return Method(name, {"draws": name}, draw)


def test_ratios_are_to_the_first_method_of_the_same_round_and_methods_take_turns(easel, watch):
    drawn: list[str] = []
    methods = [method("untouched", watch, [2.0, 4.0, 8.0], drawn), method("ours", watch, [1.0, 3.0, 8.0], drawn)]
    ratios = time_methods(easel, methods, CASE, watch, {}, lambda: None)
    assert ratios == [Spread(1, 1, 1), Spread(0.75, 0.5, 1.0)]
    assert drawn == ["untouched", "ours"] * ROUNDS


def test_what_was_timed_is_not_timed_again_unless_machine_or_methods_are_others(easel, watch):
    drawn: list[str] = []
    costs = [float(i) for i in range(1, 20)]
    first, second = method("untouched", watch, costs, drawn), method("ours", watch, costs[::-1], drawn)
    ratios = time_methods(easel, [first, second], CASE, watch, {"processor": "A"}, lambda: None)
    drawn.clear()
    assert time_methods(easel, [first, second], CASE, watch, {"processor": "A"}, lambda: None) == ratios
    assert drawn == []
    time_methods(easel, [first, second], CASE, watch, {"processor": "B"}, lambda: None)
    time_methods(easel, [first], CASE, watch, {"processor": "A"}, lambda: None)
    assert len(drawn) == ROUNDS * 3
