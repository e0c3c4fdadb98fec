"""`tome bench speed`: one denoiser call, untouched and merged by several methods, in turn."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

from torch import Tensor

from ..arguments import add_device, size, whole
from ..console import DONE, INTERRUPTED, Parser, complain, note, progress
from ..files import check_file, write_json
from ..libraries import quiet_diffusers
from ..machine import Clock, Seconds, choose_device, choose_dtype, describe
from ..models import DEMO, default_size
from ..settings import add_settings
from .guarding import GuardFigures, guard_figures, tell_guard
from .methods import OURS, SHARED, TODO, TOMESD, UNTOUCHED, LeftOutError, Method, parse_methods
from .models import RANDOM, new_call, open_denoiser
from .overhead import overhead
from .probe import Probe, probe
from .results import Result, results_table
from .timing import take_turns

DESCRIPTION: Final = f"""\
Time one call of a denoiser, untouched and merged by several methods, in turn in one process, and tell each one's time
as a ratio to the untouched call of the same round: below 1 is faster. Processor time on a CPU, wall time on a GPU.
Models: {DEMO}, a checkpoint's path, or true sizes with random weights ({", ".join(RANDOM)}), which are good for
time and say nothing of quality. tomesd is the package of the method's authors, left out where it is not installed."""
EXAMPLES: Final = """\
examples:
  tome bench speed
  tome bench speed --model sdxl-random --methods ours:preset=gentle,ours:preset=balanced,ours:preset=fast
  tome bench speed --model sd15-random --size 512 --ratio 0.5 --json speed.json
  tome bench speed --model sdxl-random --dtype bfloat16 --levels 1,2 --parts attention,mlp
  tome bench speed --model sd15-random --size 768 --ceiling --methods ours:levels=1+2+3,parts=block,matching=window
  tome bench speed --model sd15-random --size 256 --guard-pairs 20 --methods ours,ours:levels=1+2+3,parts=block
  tome bench speed --model model.safetensors --methods ours,ours:levels=1+2,parts=attention+mlp,tomesd:levels=1+2"""
_METHODS: Final = ",".join((UNTOUCHED, OURS, TOMESD))


def add_arguments(parser: Parser) -> None:
    """Add what can be chosen; nothing has to be."""
    parser.add_argument("--model", default=DEMO, metavar="MODEL", help="default %(default)s")
    parser.add_argument(
        "--size", type=size, metavar="PX", help="pixels, such as 512 or 768x512; default the model's own"
    )
    parser.add_argument(
        "--batch", type=whole(1, 64), default=2, metavar="N", help="rows of the call; default 2, an image with guidance"
    )
    parser.add_argument("--repeats", type=whole(1, 1000), default=5, metavar="N", help="rounds, default %(default)s")
    parser.add_argument(
        "--methods", default=_METHODS, metavar="METHOD,...", help="with settings after a colon; default %(default)s"
    )
    parser.add_argument(
        "--ceiling",
        action="store_true",
        help="time each of ours also with a merge that costs nothing, and tell how much of that gain is reached",
    )
    parser.add_argument(
        "--guard-pairs",
        type=whole(1, 1000),
        metavar="N",
        help="for each of ours, tell what the guard expects beside what is measured, and the speed with the guard on, "
        "from N pairs of calls; 20 for a figure to be told",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="store the results here, too")
    add_settings(parser, SHARED)
    add_device(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Open, observe each method once, time all of them, and tell."""
    methods = parse_methods(arguments.methods, {name: getattr(arguments, name) for name in SHARED})
    device = choose_device(arguments.device)
    dtype = choose_dtype(arguments.dtype, device)
    if arguments.json is not None:
        check_file(arguments.json, ".json", "json")
    with quiet_diffusers():
        unet = open_denoiser(arguments.model, dtype=dtype, device=device)
        width, height = arguments.size or default_size(unet)
        call = new_call(unet, (width, height), arguments.batch)
        methods = [method.fitted(unet) for method in methods]
        course = _Course(methods, arguments.repeats, arguments.ceiling, Clock(device))
        results, left_out, is_whole = _measure(unet, call, course)
        guards: list[GuardFigures] = []
        if arguments.guard_pairs is not None and is_whole:
            is_whole = _measure_guards(guards, unet, call, course, arguments.batch, arguments.guard_pairs)
    setting = {
        "machine": describe(device),
        "device": device.type,
        "clock": results[0].clock.name,
        "model": Path(arguments.model).name,
        "size": [width, height],
        "batch": arguments.batch,
        "dtype": str(dtype).removeprefix("torch."),
        "rounds": len(results[0].times),
    }
    _tell(setting, results)
    tell_guard(guards)
    if arguments.json is not None:
        methods_told = [result.as_dict() for result in results]
        guards_told = [figures.as_dict() for figures in guards]
        write_json(arguments.json, setting | {"methods": methods_told, "left_out": left_out, "guard": guards_told})
    if is_whole:
        return DONE
    complain(f"interrupted after {setting['rounds']} of {arguments.repeats} rounds; the figures above are of those")
    return INTERRUPTED


@dataclass(frozen=True)
class _Course:
    """What a measurement takes: the methods, how many rounds, whether with ceilings, and the clock."""

    methods: list[Method]
    rounds: int
    with_ceilings: bool
    clock: Clock


def _measure(unet: Any, call: Callable[[], Tensor], course: _Course) -> tuple[list[Result], list[dict[str, str]], bool]:
    """Return the results, what was left out and why, and whether every round was done."""
    left_out: list[dict[str, str]] = []
    probes: dict[Method, Probe] = {}
    overheads: dict[Method, float] = {}
    methods = [*course.methods, *(_ceilings(course.methods).values() if course.with_ceilings else ())]
    calls = len(methods) * (1 + course.rounds) + len(_ceilings(course.methods)) * course.rounds * course.with_ceilings
    with progress(calls, "timing") as bar:
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
    overheads: dict[Method, float],
    unet: Any,
    call: Callable[[], Tensor],
    course: _Course,
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


def _measure_guards(
    figures: list[GuardFigures], unet: Any, call: Callable[[], Tensor], course: _Course, rows: int, pairs: int
) -> bool:
    """Add the figures of the guard for each of our methods; return False where an interrupt ended that."""
    methods = [method for method in course.methods if method.kind in (OURS, TODO)]
    with progress(3 * pairs * len(methods), "pairing") as bar:
        try:
            for method in methods:
                told = guard_figures(unet, method.name, method.config, call, rows, pairs, course.clock, bar.update)
                figures.append(told)
                if told.rounds < pairs:
                    return False
        except KeyboardInterrupt:
            return False
    return True


def _results(
    course: _Course, probes: dict[Method, Probe], times: dict[Method, list[Seconds]], overheads: dict[Method, float]
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


def _ceilings(methods: list[Method]) -> dict[Method, Method]:
    """Return the ceiling of each method that has one."""
    pairs = {method: method.ceiling() for method in methods}
    return {method: ceiling for method, ceiling in pairs.items() if ceiling is not None}


def _observe(unet: Any, call: Callable[[], Tensor], method: Method) -> Probe:
    """Return an observed call. Whatever fails in the model under another package's method leaves that method out."""
    with method.on(unet):
        try:
            return probe(unet, call)
        except Exception as error:
            if method.kind != TOMESD:
                raise
            raise LeftOutError(f"it fails on this model and size with {type(error).__name__}: {error}") from error


def _tell(setting: dict[str, Any], results: list[Result]) -> None:
    width, height = setting["size"]
    print(
        f"{setting['model']}, {width} x {height} pixels, {setting['batch']} rows, {setting['dtype']}, "
        f"{setting['machine']['device']} ({setting['machine']['threads']} threads), {setting['rounds']} rounds"
    )
    print(results_table(results))
    for result in results[1:]:
        if not result.merges:
            note(f"{result.method.name} merges nothing on this model at this size")
