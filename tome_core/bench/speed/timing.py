"""Timing of several ways to do one thing, so that they can be compared: in turn, round by round, in one process."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from ..clock import Seconds

Round = list[Seconds]  # one time for each way


def take_turns(
    ways: Sequence[Callable[[], AbstractContextManager[object]]],
    call: Callable[[], object],
    rounds: int,
    clock: Callable[[], Seconds],
    on_call: Callable[[], object],
) -> tuple[list[Round], bool]:
    """Return the times of `call` under every way, round by round (A B C, A B C, ...), and whether all rounds are done.

    Entering and leaving a way is not timed. An interrupt ends the timing and keeps the whole rounds; before the first
    of them is whole it is raised.
    """
    done: list[Round] = []
    try:
        while len(done) < rounds:
            done.append([_time(way, call, clock, on_call) for way in ways])
    except KeyboardInterrupt:
        if not done:
            raise
    return done, len(done) == rounds


def _time(
    way: Callable[[], AbstractContextManager[object]],
    call: Callable[[], object],
    clock: Callable[[], Seconds],
    on_call: Callable[[], object],
) -> Seconds:
    with way():
        start = clock()
        call()
        seconds = clock() - start
    on_call()
    return seconds
