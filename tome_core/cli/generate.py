"""`tome generate PROMPT`: pictures from a prompt, through a model that runs on merged tokens."""

import argparse
import json
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any, Final

from .. import __version__
from ..bench.clock import Clock
from ..bench.methods.merging import merge
from ..settings import kinds
from ..speed import SpeedConfig
from ..speed.layouts import read_layout
from .arguments import add_device, add_request, whole
from .comparison import Row, compare
from .console import DONE, Parser, progress
from .files import check_file, write_png
from .models import opened, pictures_at_once
from .sampling import Request, draw, new_request
from .settings import Choice, add_preset, add_settings

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


def execute(arguments: argparse.Namespace) -> int:
    """Draw, write the files and print what merging did."""
    arguments.out = arguments.out or _next_free(Path("tome.png"))
    check_file(arguments.out, ".png")
    choice = Choice({name: getattr(arguments, name) for name in _SETTINGS}, arguments.preset, arguments.strength)
    choice.config()  # a mistake is found before the model is opened
    with opened(arguments) as pipeline:
        request = new_request(pipeline, arguments, arguments.prompt)
        name, config = choice.named(read_layout(pipeline.unet).family)
        rows = [(request, arguments.seed + i) for i in range(arguments.batch)]
        if arguments.compare:
            return _compare(pipeline, rows, name, config, arguments)
        return _generate(pipeline, rows, config, arguments)


def _generate(pipeline: Any, rows: list[Row], config: SpeedConfig, arguments: argparse.Namespace) -> int:
    """Write one file a seed: the name that was asked for, or for a batch that name with each seed."""
    request, seeds = rows[0][0], [seed for _, seed in rows]
    clock, out = Clock(pipeline.device), arguments.out
    with merge(pipeline, config) as handle, progress(request.steps, "drawing") as bar:
        drawn = draw(pipeline, request, seeds, clock, bar.update)
    print(handle.report)
    print(f"{clock.figure(drawn.seconds) / len(seeds):.2f} {clock.unit} a picture")
    texts = _texts(request, config, arguments)
    for seed, picture in zip(seeds, drawn.pictures, strict=True):
        path = out if len(seeds) == 1 else out.with_stem(f"{out.stem}-{seed}")
        write_png(path, picture, texts | {"seed": str(seed)})
        print(f"wrote {path}")
    return DONE


def _compare(pipeline: Any, rows: list[Row], name: str, config: SpeedConfig, arguments: argparse.Namespace) -> int:
    """Write one sheet with a row for each seed, or each one that was drawn before an interrupt."""
    request = rows[0][0]
    comparison = compare(pipeline, [(name, config)], rows, pictures_at_once(arguments.model, pipeline.device))
    print(f"{comparison.columns[1].report}\n\n{comparison.table()}")
    seeds = [str(seed) for _, seed in rows[: comparison.rows]]
    footer = f"tome-suite {__version__} · {request.summary}"
    sheet = comparison.sheet(request.prompt, [f"seed {seed}" for seed in seeds], footer)
    write_png(arguments.out, sheet, _texts(request, config, arguments) | {"seed": ", ".join(seeds)})
    print(f"wrote {arguments.out}")
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
