"""How good the demo model is, by the judge: `python -m training.demo.figures --out FOLDER`.

Single objects, two objects (held-out pairs, each colour said beside its shape, and both colours after both shapes),
and the three picture tests of the binding gate. What is drawn is kept in the folder: an interrupted run goes on where
it was.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from tome_core.bench.drawing.method import BASELINE, Method
from tome_core.bench.drawing.models import PictureModel
from tome_core.bench.drawing.runner import Runner
from tome_core.bench.drawing.sampling import Settings
from tome_core.bench.judge import judge, score
from tome_core.bench.quality.figures import JUDGED, tally_all
from tome_core.bench.quality.gate import TESTS, attribute_hits
from tome_core.bench.quality.statistics import Interval, Tally, interval
from tome_core.bench.suites import Case, load_suite, singles
from tome_core.demo import CHECKPOINT, DEMO_GUIDANCE

Picture = NDArray[np.uint8]
_SHOWN = (6, 10)  # rows and columns of the sheet of each set


def object_figures(cases: Sequence[Case], pictures: Sequence[Picture]) -> dict[str, Any]:
    """Return the judge's shares of pictures; binding error is of those in which every shape is present."""
    scores = [score(judge(picture), case.wanted) for case, picture in zip(cases, pictures, strict=True)]
    tallies = tally_all(JUDGED, cases, scores)
    shares = {name: tally.value for name, tally in tallies.items()}
    present = sum(found.present for found in scores)
    return {"count": len(cases), "present": present, **shares, "intervals": intervals(tallies)}


def attribute_figures(cases: Sequence[Case], pictures: Sequence[Picture]) -> dict[str, Any]:
    """Return the share of pictures in which any object has the colour that the case wants for its one object."""
    hits = attribute_hits(cases, pictures)
    tallies = tally_all({"attribute": lambda hit: (hit, 1)}, cases, hits)
    return {"count": len(hits), "attribute": tallies["attribute"].value, "intervals": intervals(tallies)}


def intervals(tallies: Mapping[str, Tally]) -> dict[str, Interval | None]:
    """Return the interval of each figure, by prompt."""
    return {name: interval(tally) for name, tally in tallies.items()}


def sheet(pictures: Sequence[Picture]) -> Image.Image:
    """Return the first pictures in rows, on white where they do not fill the last one."""
    rows, columns = _SHOWN
    shown = pictures[: rows * columns]
    size = len(shown[0])
    image = Image.new("RGB", (columns * size, -(-len(shown) // columns) * size), "white")
    for index, picture in enumerate(shown):
        image.paste(Image.fromarray(picture), (index % columns * size, index // columns * size))
    return image


def measure(runner: Runner, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of every set, each printed and its sheet written as soon as it is there."""
    one, two = arguments.tests, arguments.pairs
    sets = [
        ("singles", singles(arguments.singles), BASELINE, object_figures),
        ("two-colours-apart", load_suite("two-colours-apart").cases("held-out", two // 4, 4), BASELINE, object_figures),
        ("two-colours", load_suite("two-colours").cases("held-out", two // 4, 4), BASELINE, object_figures),
        *((test.method.name.replace(" ", "-"), singles(one), test.method, attribute_figures) for test in TESTS),
    ]
    figures = {}
    for name, cases, method, figures_of in sets:
        pictures = _draw(runner, method, cases, name)
        sheet(pictures).save(arguments.out / f"{name}.png")
        figures[name] = figures_of(cases, pictures)
        print(name, json.dumps(figures[name]), flush=True)
    return figures


def _draw(runner: Runner, method: Method, cases: Sequence[Case], name: str) -> list[Picture]:
    with tqdm(desc=name, total=sum(map(len, runner.missing(method, cases)))) as bar:
        runner.draw(method, cases, bar.update)
    return [drawn.pictures[0] for drawn in runner.load(method, cases)]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.demo.figures")
    parser.add_argument("--out", type=Path, required=True, help="folder for figures.json and a sheet of each set")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--singles", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=400, help="of each kind, four a prompt")
    parser.add_argument("--tests", type=int, default=210, help="pictures of each of the three picture tests")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=DEMO_GUIDANCE)
    parser.add_argument("--size", type=int, default=256, help="pixels")
    parser.add_argument("--processes", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    """Measure, and write `figures.json` with the settings."""
    arguments = parse()
    arguments.out.mkdir(parents=True, exist_ok=True)
    settings = Settings(arguments.steps, arguments.guidance, arguments.size)
    runner = Runner(PictureModel(arguments.checkpoint), settings, arguments.out / "pictures", arguments.processes)
    figures = measure(runner, arguments)
    figures = {"checkpoint": arguments.checkpoint.name, **asdict(settings), **figures}
    (arguments.out / "figures.json").write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
