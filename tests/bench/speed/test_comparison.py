"""Turns, with a clock that the test sets."""

from contextlib import contextmanager
from itertools import count

import pytest

from tome_core.bench.clock import Seconds, Spread
from tome_core.bench.speed.comparison import take_turns


class Stage:
    """Ways that note when they begin and end, and a clock that only `call` moves on."""

    def __init__(self, costs: dict[str, float]) -> None:
        self.costs, self.now, self.events, self.active = costs, 0.0, [], ""
        self.ways = [lambda name=name: self.way(name) for name in costs]

    @contextmanager
    def way(self, name):
        self.now += 100  # what must not be timed
        self.active = name
        self.events.append(f"+{name}")
        yield
        self.events.append(f"-{name}")
        self.now += 100

    def call(self):
        self.events.append("call")
        self.now += self.costs[self.active]

    def clock(self) -> Seconds:
        return Seconds(self.now, 2 * self.now)


def test_ways_take_turns_and_only_the_call_is_timed():
    stage, calls = Stage({"a": 3.0, "b": 2.0}), count()
    rounds, is_whole = take_turns(stage.ways, stage.call, 2, stage.clock, lambda: next(calls))
    assert stage.events == ["+a", "call", "-a", "+b", "call", "-b"] * 2
    assert rounds == [[Seconds(3, 6), Seconds(2, 4)]] * 2
    assert is_whole
    assert next(calls) == 4


def test_an_interrupt_keeps_the_whole_rounds_and_leaves_no_way_on():
    stage = Stage({"a": 3.0, "b": 2.0})
    calls = count(1)

    def interrupted_call():
        stage.call()
        if next(calls) == 4:
            raise KeyboardInterrupt

    rounds, is_whole = take_turns(stage.ways, interrupted_call, 9, stage.clock, lambda: None)
    assert rounds == [[Seconds(3, 6), Seconds(2, 4)]]
    assert not is_whole


def test_an_interrupt_before_the_first_round_is_whole_is_passed_on():
    stage = Stage({"a": 3.0})

    def interrupted_call():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take_turns(stage.ways, interrupted_call, 9, stage.clock, lambda: None)


def test_the_spread_is_the_middle_and_the_ends():
    assert Spread.of([3.0, 1.0, 2.0, 9.0]) == Spread(2.5, 1.0, 9.0)
