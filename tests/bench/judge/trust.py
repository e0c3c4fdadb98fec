"""How far the judge can be trusted: `python -m tests.bench.judge.trust --out FOLDER`.

Confusion matrices of colours and shapes on clean renders, on damaged ones and on autoencoder round trips; and, with
`--labels FILE`, its agreement with a person who labelled generated pictures without knowing its verdicts. Such a file
holds the weights and settings that the pictures came from, and for each seed of `singles` whether the picture follows
its prompt: {"weights": SHA-256, "settings": {"steps": 20, ...}, "labels": {"1000": true, ...}}. With "suite" its seeds
are those of the held-out prompts of a suite, four each.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from tqdm import tqdm

from tests.bench.judge.damage import Damage, Picture, add_noise, blur, compress, wobble
from tome_core.bench.drawing.method import BASELINE
from tome_core.bench.drawing.models import PictureModel
from tome_core.bench.drawing.runner import Runner
from tome_core.bench.drawing.sampling import Settings
from tome_core.bench.judge import UNSURE, judge, score
from tome_core.bench.suites import load_suite, singles
from tome_core.demo import CHECKPOINT
from tome_core.demo.architecture import to_bytes, to_unit
from tome_core.demo.scene import COLOURS, SHAPES
from training.demo.scene import Scene, random_scene, render

SIZE: Final = 256  # pixels
ABSENT: Final = "no object"
SEVERAL: Final = "several"
_LABELLED: Final = 500  # of `singles`, which labels may name
_LABELLED_PROMPTS: Final = 100  # of a suite's, four pictures each
_DAMAGES: Final[dict[str, tuple[Damage, float]]] = {
    **{f"blurred by {sigma} pixels": (blur, sigma) for sigma in (1, 3, 8)},
    **{f"noise of {sigma}": (add_noise, sigma) for sigma in (0.1, 0.2, 0.5)},
    **{f"JPEG of quality {quality}": (compress, quality) for quality in (50, 20)},
    **{f"edges that wobble by {pixels} pixels": (wobble, pixels) for pixels in (1.5, 3, 5)},
}


@dataclass(frozen=True)
class Reading:
    """Pictures of one object each as the judge reads them, and whole scenes of one or two objects.

    `colours` and `shapes` count (drawn, read); what is read may be `UNSURE`, `ABSENT` or `SEVERAL` objects.
    `right`, `unsure` and `wrong` are shares of the scenes.
    """

    name: str
    colours: Counter[tuple[str, str]]
    shapes: Counter[tuple[str, str]]
    right: float
    unsure: float
    wrong: float

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return {
            "pictures": self.name,
            "right": self.right,
            "unsure": self.unsure,
            "wrong": self.wrong,
            "colours": _rows(self.colours, tuple(COLOURS)),
            "shapes": _rows(self.shapes, tuple(SHAPES)),
        }


def read(name: str, change: Callable[[Picture], Picture], count: int, seed: int = 0) -> Reading:
    """Return the judge's reading of `count` scenes of one object, and of `count` scenes of one or two.

    change: from a clean render to what the judge is shown.
    """
    rng = np.random.default_rng(seed)
    colours: Counter[tuple[str, str]] = Counter()
    shapes: Counter[tuple[str, str]] = Counter()
    fates: Counter[str] = Counter()
    for _ in range(count):
        single = random_scene(rng, pair_share=0.0)
        found = judge(change(render(single, SIZE)))
        colour, shape = (found[0].colour, found[0].shape) if len(found) == 1 else (SEVERAL if found else ABSENT,) * 2
        colours[single.things[0].colour, colour] += 1
        shapes[single.things[0].shape, shape] += 1
        fates[_fate(scene := random_scene(rng), change(render(scene, SIZE)))] += 1
    return Reading(name, colours, shapes, *(fates[fate] / count for fate in ("right", UNSURE, "wrong")))


def _fate(scene: Scene, picture: Picture) -> str:
    result = score(judge(picture), [(thing.colour, thing.shape) for thing in scene.things])
    return "right" if result.right else UNSURE if result.unsure else "wrong"


def _rows(counts: Counter[tuple[str, str]], names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return for each name that was drawn how often it was read as what."""
    return {drawn: {seen: counts[drawn, seen] for seen in _seen(counts, names)} for drawn in names}


def _seen(counts: Counter[tuple[str, str]], names: Sequence[str]) -> list[str]:
    return [*names, *(other for other in (UNSURE, SEVERAL, ABSENT) if any(seen == other for _, seen in counts))]


def table(reading: Reading) -> str:
    """Return both confusion matrices as markdown: a row for what was drawn, a column for what was read."""
    head = (
        f"**{reading.name}**: scenes {reading.right:.1%} right, {reading.unsure:.1%} unsure, {reading.wrong:.1%} wrong"
    )
    parts = [head]
    for counts, names in ((reading.colours, tuple(COLOURS)), (reading.shapes, tuple(SHAPES))):
        seen = _seen(counts, names)
        lines = [f"| drawn | {' | '.join(seen)} |", f"|---|{'---|' * len(seen)}"]
        lines += [f"| {drawn} | {' | '.join(str(counts[drawn, name] or '') for name in seen)} |" for drawn in names]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _apply(damage: Damage, strength: float, rng: np.random.Generator, picture: Picture) -> Picture:
    return damage(picture, strength, rng)


@torch.no_grad()
def round_trip(pipeline: Any, picture: Picture) -> Picture:
    """Return a picture after the autoencoder of a pipeline."""
    latents = pipeline.vae.encode(to_unit(picture[None])).latent_dist.mean
    return to_bytes(pipeline.vae.decode(latents).sample)[0]


def agreement(labels: dict[str, Any], checkpoint: Path, folder: Path, processes: int) -> dict[str, int]:
    """Return how many labelled pictures the person and the judge call right, one of them, or neither.

    Raises ValueError for labels of other weights or of seeds that no case has.
    """
    runner = Runner(PictureModel(checkpoint), Settings(**labels["settings"]), folder, processes)
    if runner.model.identity["weights"] != labels["weights"]:
        raise ValueError(f"checkpoint must be the one that was labelled, {labels['weights']}, got {checkpoint}")
    if not labels["labels"]:
        raise ValueError("labels must be of at least one picture, got none")
    suite = labels.get("suite")
    known = singles(_LABELLED) if suite is None else load_suite(suite).cases("held-out", _LABELLED_PROMPTS, 4)
    by_seed = {str(case.seed): case for case in known}
    if unknown := set(labels["labels"]) - set(by_seed):
        seeds = f"seeds from 1000 to {999 + _LABELLED}" if suite is None else f"seeds of {suite}"
        raise ValueError(f"labels must be of {seeds}, got {sorted(unknown)}")
    cases = list(by_seed.values())[: 1 + max(list(by_seed).index(seed) for seed in labels["labels"])]
    with tqdm(desc="drawing", total=sum(map(len, runner.missing(BASELINE, cases)))) as bar:
        runner.draw(BASELINE, cases, bar.update)
    pictures = {
        str(case.seed): drawn.pictures[0] for case, drawn in zip(cases, runner.load(BASELINE, cases), strict=True)
    }
    counts: Counter[str] = Counter({"both": 0, "person alone": 0, "judge alone": 0, "neither": 0})
    for seed, person in labels["labels"].items():
        judged = score(judge(pictures[seed]), by_seed[seed].wanted).right
        counts[("both" if person else "judge alone") if judged else ("person alone" if person else "neither")] += 1
    return dict(counts)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.judge.trust")
    parser.add_argument("--out", type=Path, required=True, help="folder for judge.json, judge.md and drawn pictures")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--count", type=int, default=300, help="single objects, and scenes, of every kind of damage")
    parser.add_argument("--labels", type=Path, help="what a person said of generated pictures")
    parser.add_argument("--processes", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    """Measure, and write `judge.json` and `judge.md`."""
    arguments = parse()
    arguments.out.mkdir(parents=True, exist_ok=True)
    pipeline, rng = PictureModel(arguments.checkpoint).open(), np.random.default_rng(1)
    changes: dict[str, Callable[[Picture], Picture]] = {
        "clean": lambda picture: picture,
        "autoencoder round trip": partial(round_trip, pipeline),
        **{name: partial(_apply, damage, strength, rng) for name, (damage, strength) in _DAMAGES.items()},
    }
    readings = [read(name, change, arguments.count) for name, change in tqdm(changes.items(), desc="reading")]
    figures: dict[str, Any] = {"count": arguments.count, "readings": [reading.as_dict() for reading in readings]}
    text = [table(reading) for reading in readings]
    if arguments.labels is not None:
        labels = json.loads(arguments.labels.read_text())
        figures["agreement"] = agreement(labels, arguments.checkpoint, arguments.out / "pictures", arguments.processes)
        text.append(f"Right in the eyes of: {figures['agreement']}")
    (arguments.out / "judge.json").write_text(json.dumps(figures, indent=2) + "\n")
    (arguments.out / "judge.md").write_text("\n\n".join(text) + "\n")
    print("\n\n".join(text))


if __name__ == "__main__":
    main()
