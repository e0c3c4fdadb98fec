"""A measurement: each method is observed once, all are timed in turn, and what they spend on merging is read."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from torch import Tensor

from ..console import note, progress
from ..machine import Clock, Seconds
from .methods import TOMESD, LeftOutError, Merging
from .overhead import overhead
from .probe import Probe, probe
from .results import Result
from .timing import take_turns


@dataclass(frozen=True)
class Course:
    """What a measurement takes: the methods, how many rounds, whether with ceilings, and the clock."""

    methods: list[Merging]
    rounds: int
    with_ceilings: bool
    clock: Clock


def measure(unet: Any, call: Callable[[], Tensor], course: Course) -> tuple[list[Result], list[dict[str, str]], bool]:
    """Return the results, what was left out and why, and whether every round was done."""
    left_out: list[dict[str, str]] = []
    probes: dict[Merging, Probe] = {}
    overheads: dict[Merging, float] = {}
    methods = [*course.methods, *(_ceilings(course.methods).values() if course.with_ceilings else ())]
    calls = len(methods) * (1 + course.rounds) + len(_ceilings(course.methods)) * course.rounds * course.with_ceilings
    with progress(1 + calls, "timing") as bar:
        call()  # the first one takes memory that libraries keep
        bar.update()
        for method in methods:
            try:
                probes[method] = _observe(unet, call, method)
            except LeftOutError as reason:
                left_out.append({"method": method.name, "reason": str(reason)})
                note(f"{method.name} is left out: {reason}")
            bar.update()
        ways = [partial(method.on, unet) for method in probes]
        times, is_whole = take_turns(ways, call, course.rounds, course.clock, bar.update)
        if course.with_ceilings and is_whole:
            is_whole = _measure_overheads(overheads, unet, call, course, bar.update)
    columns = {method: [row[i] for row in times] for i, method in enumerate(probes)}
    return _results(course, probes, columns, overheads), left_out, is_whole


def _measure_overheads(
    overheads: dict[Merging, float],
    unet: Any,
    call: Callable[[], Tensor],
    course: Course,
    on_call: Callable[[], object],
) -> bool:
    """Measure what each method that has a ceiling spends on merging; return False where an interrupt ended that."""
    try:
        for method in _ceilings(course.methods):
            shares = []
            for _ in range(course.rounds):
                shares.append(overhead(unet, method.config, call, course.clock))
                on_call()
            overheads[method] = median(shares)
    except KeyboardInterrupt:
        return False
    return True


def _results(
    course: Course, probes: dict[Merging, Probe], times: dict[Merging, list[Seconds]], overheads: dict[Merging, float]
) -> list[Result]:
    """Put together what was measured of each method, and of its ceiling."""
    first = course.methods[0]
    untouched = Result(first, probes[first], times[first], course.clock)
    results = [untouched]
    for method in course.methods[1:]:
        if method not in probes:
            continue
        ceiling = method.ceiling()
        bound = None
        if ceiling in probes:
            bound = Result(ceiling, probes[ceiling], times[ceiling], course.clock, untouched)
        share = overheads.get(method)
        results.append(Result(method, probes[method], times[method], course.clock, untouched, bound, share))
    return results


def _ceilings(methods: list[Merging]) -> dict[Merging, Merging]:
    """Return the ceiling of each method that has one."""
    pairs = {method: method.ceiling() for method in methods}
    return {method: ceiling for method, ceiling in pairs.items() if ceiling is not None}


def _observe(unet: Any, call: Callable[[], Tensor], method: Merging) -> Probe:
    """Return an observed call. Whatever fails in the model under another package's method leaves that method out."""
    with method.on(unet):
        try:
            return probe(unet, call)
        except Exception as error:
            if method.kind != TOMESD:
                raise
            raise LeftOutError(f"it fails on this model and size with {type(error).__name__}: {error}") from error
