"""Times of methods, with a clock that the test sets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from tome_core.bench.clock import Clock, Seconds, Spread
from tome_core.bench.drawing.method import Method
from tome_core.bench.drawing.sampling import Drawn, Settings
from tome_core.bench.quality.comparison import QualityComparison
from tome_core.bench.suites import Case, load_suite


class Watch(Clock):
    """Only drawing takes time on it."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.now = 0.0
        self.drawn: list[str] = []

    def __call__(self) -> Seconds:
        return Seconds(self.now, 1000 - self.now)


@dataclass(frozen=True)
class Slow(Method):
    """Takes so long in each round."""

    costs: list[float]
    watch: Watch = field(compare=False)

    @property
    def identity(self) -> dict[str, Any]:
        return {"draws": self.name}

    def draw(self, pipeline: Any, cases: Sequence[Case], settings: Settings) -> Drawn:
        self.watch.now += self.costs[self.watch.drawn.count(self.name)]
        self.watch.drawn.append(self.name)
        return Drawn(*[None] * 2)  # type: ignore[arg-type]


@pytest.fixture
def watch() -> Watch:
    return Watch()


def time(runner, watch: Watch, machine: dict[str, Any], *methods: Method) -> list[Spread]:
    comparison = QualityComparison([], load_suite("single"), "seen", 1, 1, runner)
    return comparison.time(methods, watch, machine, lambda count: None)


def test_ratios_are_to_the_first_method_of_the_same_round_and_methods_take_turns(runner, watch):
    untouched, ours = Slow("untouched", [2.0, 4.0, 8.0], watch), Slow("ours", [1.0, 3.0, 8.0], watch)
    assert time(runner, watch, {}, untouched, ours) == [(1, 1, 1), (0.75, 0.5, 1.0)]
    assert watch.drawn == ["untouched", "ours"] * 3


def test_what_was_timed_is_not_timed_again_unless_machine_or_methods_are_others(runner, watch):
    costs = [float(i) for i in range(1, 20)]
    first, second = Slow("untouched", costs, watch), Slow("ours", costs[::-1], watch)
    ratios = time(runner, watch, {"processor": "A"}, first, second)
    assert time(runner, watch, {"processor": "A"}, first, second) == ratios
    assert len(watch.drawn) == 3 * 2
    time(runner, watch, {"processor": "B"}, first, second)
    time(runner, watch, {"processor": "A"}, first)
    assert len(watch.drawn) == 3 * 5
