"""`tome generate PROMPT`: pictures from a prompt, through a model that runs on merged tokens."""

import argparse
import json
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

from .. import __version__
from ..bench.clock import Clock
from ..settings import kinds
from ..speed import SpeedConfig
from ..speed.layouts import read_layout
from .arguments import add_device, add_request, whole
from .comparison import compare, name_of
from .console import DONE, Parser, progress
from .files import check_file, write_png
from .libraries import quiet_diffusers
from .machine import choose_device, choose_dtype
from .models import one_thread, open_pipeline, pictures_at_once, warn_of_length
from .presets import add_preset, chosen
from .sampling import Request, draw, new_request, warn_of_demo
from .settings import add_settings, merge

DESCRIPTION: Final = """\
Draw a picture from a prompt, faster by merging tokens, and print what merging did. The model is the small one of this
package, or your own Stable Diffusion 1.5, 2.x or SDXL checkpoint: one .safetensors file or a diffusers folder. Nothing
is downloaded. The PNG file keeps the prompt, seed and settings. The same seed gives the same picture."""
EXAMPLES: Final = """\
examples:
  tome generate "a red square"
  tome generate "a blue circle and a yellow cross" --compare --out circle.png
  tome generate "a lighthouse at dusk" --model sdxl.safetensors --preset gentle --compare
  tome generate "a lighthouse at dusk" --model sdxl.safetensors --size 1024 --ratio 0.5 --levels 1,2
  tome generate "a lighthouse at dusk" --model folder --batch 4 --seed 100 --out lighthouse.png"""
_SETTINGS: Final = tuple(name for name in kinds(SpeedConfig) if name != "seed")  # --seed is the picture's


def add_arguments(parser: Parser) -> None:
    """Add the prompt and everything that can be chosen beside it."""
    add_request(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="a .png; default the next free tome-00001.png here")
    parser.add_argument("--compare", action="store_true", help="one sheet: the untouched picture beside the merged one")
    parser.add_argument(
        "--batch", type=whole(1, 64), default=1, metavar="N", help="pictures, of seeds SEED, SEED + 1, ...; default 1"
    )
    add_preset(parser)
    add_settings(parser, _SETTINGS)
    add_device(parser)


@dataclass(frozen=True)
class Job:
    """What to draw, with what, and where to: `name` is the config's, `texts` go into the files."""

    pipeline: Any
    request: Request
    name: str
    config: SpeedConfig
    seeds: list[int]
    clock: Clock
    out: Path
    texts: dict[str, str]


def execute(arguments: argparse.Namespace) -> int:
    """Draw, write the files and print what merging did."""
    choice = chosen(arguments, _SETTINGS)
    choice.config()  # a mistake is found before the model is opened
    device = choose_device(arguments.device)
    dtype = choose_dtype(arguments.dtype, device)
    out = arguments.out or _next_free(Path("tome.png"))
    check_file(out, ".png")
    warn_of_demo(arguments, arguments.prompt)
    with quiet_diffusers(), one_thread(arguments.model, device):
        pipeline = open_pipeline(arguments.model, dtype=dtype, device=device, prediction_type=arguments.prediction_type)
        warn_of_length(pipeline, arguments.prompt)
        request = new_request(pipeline, arguments)
        seeds = [arguments.seed + i for i in range(arguments.batch)]
        config = choice.config(read_layout(pipeline.unet).family)
        texts = _texts(request, config, arguments)
        job = Job(pipeline, request, choice.name or name_of(config), config, seeds, Clock(device), out, texts)
        if arguments.compare:
            return _compare(job, pictures_at_once(arguments.model, device))
        return _generate(job)


def _generate(job: Job) -> int:
    """Write one file a seed: the name that was asked for, or for a batch that name with each seed."""
    with merge(job.pipeline, job.config) as handle, progress(job.request.steps, "drawing") as bar:
        drawn = draw(job.pipeline, job.request, job.seeds, job.clock, bar.update)
    print(handle.report)
    print(f"{job.clock.figure(drawn.seconds) / len(job.seeds):.2f} {job.clock.unit} a picture")
    for seed, picture in zip(job.seeds, drawn.pictures, strict=True):
        path = job.out if len(job.seeds) == 1 else job.out.with_stem(f"{job.out.stem}-{seed}")
        write_png(path, picture, job.texts | {"seed": str(seed)})
        print(f"wrote {path}")
    return DONE


def _compare(job: Job, threads: int) -> int:
    """Write one sheet with a row for each seed, or each one that was drawn before an interrupt."""
    request = job.request
    comparison = compare(job.pipeline, [(job.name, job.config)], [(request, seed) for seed in job.seeds], threads)
    print(f"{comparison.columns[1].report}\n\n{comparison.table()}")
    seeds = job.seeds[: comparison.rows]
    labels = [f"seed {seed}" for seed in seeds]
    footer = f"tome-suite {__version__} · {request.width} x {request.height} pixels · {request.steps} steps"
    sheet = comparison.sheet(request.prompt, labels, footer)
    write_png(job.out, sheet, job.texts | {"seed": ", ".join(str(seed) for seed in seeds)})
    print(f"wrote {job.out}")
    return comparison.conclude()


def _texts(request: Request, config: SpeedConfig, arguments: argparse.Namespace) -> dict[str, str]:
    """Return how a picture was made, as texts for its file; the seed is added later."""
    asked = asdict(request)
    for name in ("prediction_type", "preset", "strength"):
        if getattr(arguments, name) is not None:
            asked[name] = getattr(arguments, name)
    return {
        "prompt": asked.pop("prompt"),
        "negative_prompt": asked.pop("negative_prompt"),
        "settings": json.dumps({"model": Path(arguments.model).name, **asked}),
        "tome_config": json.dumps(asdict(config)),
        "tome_version": __version__,
    }


def _next_free(path: Path) -> Path:
    """Return the path with the least number that no file beside it has, so that no earlier picture is lost."""
    numbered = (path.with_stem(f"{path.stem}-{number:05}") for number in count(1))
    return next(free for free in numbered if not any(free.parent.glob(f"{free.stem}*")))  # a batch adds its seeds
