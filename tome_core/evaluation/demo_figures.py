"""How good the demo model is, by the judge: `python -m tome_core.evaluation.demo_figures --out FOLDER`.

Single objects, two objects (pairs seen in training and held out), and the three picture tests by which Hu et al. 2024
(figure 2 and appendix C) show which rows of a prompt carry an attribute.
"""

import argparse
import json
import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from ..demo import CHECKPOINT, DEMO_GUIDANCE, load_demo
from ..demo.scene import HELD_OUT_PAIRS, SEEN_PAIRS
from .cases import Case, RowsOf, added_row, all_rows, end_rows, noun_row, pairs, singles
from .judge import judge
from .sampling import sample
from .scoring import score
from .summary import summarise

Picture = NDArray[np.uint8]
_BATCH = 8  # pictures denoised together
_SHOWN = (6, 10)  # rows and columns of the sheet of each set


@dataclass(frozen=True)
class Settings:
    """How pictures are made: the checkpoint, denoising steps, guidance scale, side in pixels."""

    checkpoint: Path
    steps: int
    guidance: float
    size: int


class Painter:
    """Makes pictures in several processes, each of which opens the model once."""

    def __init__(self, settings: Settings, processes: int) -> None:
        self._settings = settings
        self._pool = ProcessPoolExecutor(processes, get_context("spawn"))

    def __enter__(self) -> "Painter":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def paint(self, cases: list[Case], rows_of: RowsOf, name: str) -> list[Picture]:
        """Return the pictures of the cases, in order; `name` stands beside the progress bar."""
        batches = [cases[start : start + _BATCH] for start in range(0, len(cases), _BATCH)]
        made = self._pool.map(partial(_paint, self._settings, rows_of), batches)
        return [picture for batch in tqdm(made, desc=name, total=len(batches)) for picture in batch]


@cache
def _open(checkpoint: Path) -> Any:
    torch.set_num_threads(1)
    return load_demo(checkpoint=checkpoint)


def _paint(settings: Settings, rows_of: RowsOf, cases: list[Case]) -> list[Picture]:
    pipeline = _open(settings.checkpoint)
    rows, keep = rows_of(pipeline, cases)
    seeds = [case.seed for case in cases]
    how = {"steps": settings.steps, "guidance": settings.guidance, "size": settings.size}
    return list(sample(pipeline, rows, keep, seeds, **how))


def object_figures(cases: list[Case], pictures: list[Picture]) -> dict[str, Any]:
    """Return the judge's counts over pictures, and `binding_error` as a fraction, None where nothing is present."""
    summary = summarise(score(judge(p), case.wanted) for case, p in zip(cases, pictures, strict=True))
    error = summary.binding_error
    return {**asdict(summary), "binding_error": None if math.isnan(error) else error}


def attribute_figures(cases: list[Case], pictures: list[Picture]) -> dict[str, Any]:
    """Return the share of pictures in which any object has the colour that the case wants for its one object."""
    colours = [{found.colour for found in judge(picture).objects} for picture in pictures]
    hits = [case.wanted[0][0] in seen for case, seen in zip(cases, colours, strict=True)]
    return {"count": len(hits), "attribute": float(np.mean(hits))}


def sheet(pictures: list[Picture]) -> Image.Image:
    """Return the first pictures in rows, on white where they do not fill the last one."""
    rows, columns = _SHOWN
    shown = pictures[: rows * columns]
    size = len(shown[0])
    image = Image.new("RGB", (columns * size, -(-len(shown) // columns) * size), "white")
    for index, picture in enumerate(shown):
        image.paste(Image.fromarray(picture), (index % columns * size, index // columns * size))
    return image


def measure(painter: Painter, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of every set, each printed and its sheet written as soon as it is there."""
    one, two = arguments.tests, arguments.pairs
    sets = (
        ("singles", singles(arguments.singles), all_rows, object_figures),
        ("pairs-seen", pairs(SEEN_PAIRS, two), all_rows, object_figures),
        ("pairs-held-out", pairs(HELD_OUT_PAIRS, two), all_rows, object_figures),
        ("noun-row-only", singles(one), noun_row, attribute_figures),
        ("end-rows-only", singles(one), end_rows, attribute_figures),
        ("added-row", singles(one), added_row, attribute_figures),
    )
    figures = {}
    for name, cases, rows_of, figures_of in sets:
        pictures = painter.paint(cases, rows_of, name)
        sheet(pictures).save(arguments.out / f"{name}.png")
        figures[name] = figures_of(cases, pictures)
        print(name, json.dumps(figures[name]), flush=True)
    return figures


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tome_core.evaluation.demo_figures")
    parser.add_argument("--out", type=Path, required=True, help="folder for figures.json and a sheet of each set")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--singles", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=300, help="of seen and of held-out pairs each")
    parser.add_argument("--tests", type=int, default=120, help="pictures of each of the three picture tests")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--guidance", type=float, default=DEMO_GUIDANCE)
    parser.add_argument("--size", type=int, default=256, help="pixels")
    parser.add_argument("--processes", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    """Measure, and write `figures.json` with the settings."""
    arguments = parse()
    arguments.out.mkdir(parents=True, exist_ok=True)
    settings = Settings(arguments.checkpoint, arguments.steps, arguments.guidance, arguments.size)
    with Painter(settings, arguments.processes) as painter:
        figures = measure(painter, arguments)
    figures = {**asdict(settings), "checkpoint": settings.checkpoint.name, **figures}
    (arguments.out / "figures.json").write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
