"""`tome bench speed`: one denoiser call, untouched and merged by several methods, in turn."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from ...bench.clock import Clock, describe
from ...bench.drawing.method import UNTOUCHED
from ...bench.methods.reading import OURS, SHARED, read_mergings
from ...bench.methods.tomesd import TOMESD
from ...bench.speed.comparison import SpeedComparison
from ...bench.speed.demo_pictures import BATCH, MOST_PROMPTS, demo_figures
from ...bench.speed.denoisers import RANDOM, TIMED_AT, new_call, random_denoiser
from ...bench.speed.results import MethodTimes, results_table
from ..arguments import add_device, size, whole
from ..console import DONE, INTERRUPTED, Parser, note, print_error, progress, waiting
from ..files import check_file, write_json
from ..models import DEMO, choose_device, choose_dtype, default_size, open_pipeline, quiet_diffusers
from ..settings import add_settings

DESCRIPTION: Final = f"""\
Time one call of a denoiser, untouched and merged by several methods, in turn in one process, and tell each one's time
as a ratio to the untouched call of the same round: below 1 is faster. Processor time on a CPU, wall time on a GPU. Peak
memory is what a call takes beside the model.
Models: {DEMO}, a checkpoint's path, or true sizes with random weights ({", ".join(RANDOM)}), which are good for
time and say nothing of quality: --demo-prompts tells that of the demo model beside each time. tomesd is the package of
the method's authors, left out where it is not installed."""
EXAMPLES: Final = """\
examples:
  tome bench speed
  tome bench speed --model sdxl-random --methods ours:preset=gentle,ours:preset=balanced,ours:preset=fast
  tome bench speed --model sd15-random --size 512 --ratio 0.5 --json speed.json
  tome bench speed --model sdxl-random --dtype bfloat16 --levels 1,2 --parts attention,mlp
  tome bench speed --model sd15-random --size 768 --ceiling --methods ours:levels=1+2+3,parts=block,matching=window
  tome bench speed --model sdxl-random --demo-prompts 12 --methods ours:preset=gentle,ours:preset=fast
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
        "--demo-prompts",
        type=whole(1, MOST_PROMPTS),
        metavar="N",
        help="draw N prompts with the demo model by each method, too, and tell how far its pictures are from the "
        "untouched ones, whatever model is timed; 12 for a figure to be told, which takes a minute or more a method",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="store the results here, too")
    add_settings(parser, SHARED)
    add_device(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Open, observe each method once, time all of them, and print."""
    methods = read_mergings(arguments.methods, {name: getattr(arguments, name) for name in SHARED})
    device = choose_device(arguments.device)
    dtype = choose_dtype(arguments.dtype, device)
    if arguments.json is not None:
        check_file(arguments.json, ".json", "json")
    with quiet_diffusers():
        unet = _open(arguments.model, dtype=dtype, device=device)
        width, height = arguments.size or default_size(unet)
        call = new_call(unet, (width, height), arguments.batch)
        methods = [method.fitted(unet) for method in methods]
        comparison = SpeedComparison(unet, call, methods, arguments.repeats, arguments.ceiling, Clock(device))
        with progress(comparison.calls, "timing") as bar:
            found = comparison.measure(bar.update)
        results, is_whole = found.methods, found.is_whole
        if arguments.demo_prompts is not None and is_whole:
            results, is_whole = _add_demo(results, arguments.demo_prompts, str(device))
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
    _print(setting, results)
    if arguments.json is not None:
        columns = [result.as_dict() for result in results]
        write_json(arguments.json, setting | {"methods": columns, "left_out": found.left_out})
    if is_whole:
        return DONE
    print_error(f"interrupted after {setting['rounds']} of {arguments.repeats} rounds; the figures above are of those")
    return INTERRUPTED


def _open(name: str, *, dtype: torch.dtype, device: torch.device) -> Any:
    """Return the UNet of a name: "demo", one of `RANDOM`, or a checkpoint's path."""
    if name not in RANDOM:
        return open_pipeline(name, dtype=dtype, device=device).unet
    with waiting(f"building {name}"):
        return random_denoiser(name, dtype=dtype, device=device)


def _add_demo(results: list[MethodTimes], prompts: int, device: str) -> tuple[list[MethodTimes], bool]:
    """Return the results with what their methods do to the demo model; False where an interrupt ended that."""
    methods = [result.method for result in results]
    with progress(-(-prompts // BATCH) * len(methods), "drawing") as bar:
        figures, is_whole = demo_figures(methods, prompts, device, bar.update)
    return [replace(result, demo=figures.get(result.method)) for result in results], is_whole


def _print(setting: dict[str, Any], results: list[MethodTimes]) -> None:
    width, height = setting["size"]
    print(
        f"{setting['model']}, {width} x {height} pixels, {setting['batch']} rows, {setting['dtype']}, "
        f"{setting['machine']['device']} ({setting['machine']['threads']} threads), {setting['rounds']} rounds"
    )
    print(results_table(results))
    for result in results[1:]:
        if result.run_time_ratio is None:
            config = result.method.config
            part = f"from {config.start_percent:g} to {config.end_percent:g} of a run"
            reason = f"the call that is timed is at {TIMED_AT:g}, where it merges nothing"
            note(f"{result.method.name} merges {part}: {reason}")
        elif not result.merges:
            note(f"{result.method.name} merges nothing on this model at this size")
