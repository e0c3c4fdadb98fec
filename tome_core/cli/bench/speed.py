"""`tome bench speed`: one denoiser call, untouched and merged by several methods, in turn."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from ..arguments import add_device, size, whole
from ..console import DONE, INTERRUPTED, Parser, complain, note, progress
from ..files import check_file, write_json
from ..libraries import quiet_diffusers
from ..machine import Clock, choose_device, choose_dtype, describe
from ..models import DEMO, default_size
from ..settings import add_settings
from .methods import OURS, TOMESD, UNTOUCHED, LeftOutError, Method, parse_methods
from .models import RANDOM, new_call, open_denoiser
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
  tome bench speed --model sd15-random --size 512 --ratio 0.5 --json speed.json
  tome bench speed --model sdxl-random --dtype bfloat16 --levels 1,2 --parts attention,mlp
  tome bench speed --model model.safetensors --methods ours,ours:levels=1+2,parts=attention+mlp,tomesd:levels=1+2"""
_METHODS: Final = ",".join((UNTOUCHED, OURS, TOMESD))
_SHARED: Final = ("ratio", "levels", "parts")


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
    parser.add_argument("--json", type=Path, metavar="FILE", help="store the results here, too")
    add_settings(parser, _SHARED)
    add_device(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Open, observe each method once, time all of them, and tell."""
    methods = parse_methods(arguments.methods, {name: getattr(arguments, name) for name in _SHARED})
    device = choose_device(arguments.device)
    dtype = choose_dtype(arguments.dtype, device)
    if arguments.json is not None:
        check_file(arguments.json, ".json", "json")
    with quiet_diffusers():
        unet = open_denoiser(arguments.model, dtype=dtype, device=device)
        width, height = arguments.size or default_size(unet)
        call = new_call(unet, (width, height), arguments.batch)
        results, left_out, is_whole = _measure(unet, call, methods, arguments.repeats, Clock(device))
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
    if arguments.json is not None:
        methods_told = [result.as_dict() for result in results]
        write_json(arguments.json, setting | {"methods": methods_told, "left_out": left_out})
    if is_whole:
        return DONE
    complain(f"interrupted after {setting['rounds']} of {arguments.repeats} rounds; the figures above are of those")
    return INTERRUPTED


def _measure(
    unet: Any, call: Callable[[], Tensor], methods: list[Method], rounds: int, clock: Clock
) -> tuple[list[Result], list[dict[str, str]], bool]:
    """Return the results, what was left out and why, and whether every round was done."""
    left_out: list[dict[str, str]] = []
    probes: list[tuple[Method, Probe]] = []
    with progress(len(methods) * (1 + rounds), "timing") as bar:
        for method in methods:
            try:
                probes.append((method, _observe(unet, call, method)))
            except LeftOutError as reason:
                left_out.append({"method": method.name, "reason": str(reason)})
                note(f"{method.name} is left out: {reason}")
            bar.update()
        ways = [partial(method.on, unet) for method, _ in probes]
        times, is_whole = take_turns(ways, call, rounds, clock, bar.update)
    untouched = Result(*probes[0], [row[0] for row in times], clock)
    others = [Result(*probes[i], [row[i] for row in times], clock, untouched) for i in range(1, len(probes))]
    return [untouched, *others], left_out, is_whole


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
