"""What `tome bind` leaves behind: the two pictures side by side, their maps, and all of it in numbers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from .. import __version__
from ..attention_maps import MapRecorder, entropy, overlap, overlay
from ..bench.sheet import Heading, draw_sheet
from ..binding import BoundPrompt, Parse
from .files import write_json, write_png
from .sampling import Drawn, Request


@dataclass(frozen=True)
class Version:
    """One of the two pictures, and the maps of its groups over the model calls."""

    name: str
    drawn: Drawn
    recorder: MapRecorder


@dataclass(frozen=True)
class Pair:
    """What was drawn twice, and how: `settings` are JSON-able values that the request does not hold."""

    request: Request
    seed: int
    bound: BoundPrompt
    versions: Sequence[Version]
    settings: dict[str, Any]


def write_pair(folder: Path, pair: Pair) -> None:
    """Write pictures.png, maps.png and maps.json into a folder."""
    request, parse, versions = pair.request, pair.bound.parse, pair.versions
    texts = {"prompt": request.prompt, "seed": str(pair.seed), "tome_version": __version__}
    pictures = [version.drawn.pictures[0] for version in versions]
    names = [version.name for version in versions]
    footer = f"tome-suite {__version__} · {request.width} x {request.height} pixels · {request.steps} steps"
    footer += f" · seed {pair.seed}"
    sheet = draw_sheet(parse.text, [Heading(name) for name in names], [""], [pictures], footer)
    rows = [[picture, *_overlays(version)] for picture, version in zip(pictures, versions, strict=True)]
    ranges = [["", *_ranges(version)] for version in versions]
    footer += " · below each map, from its darkest to its lightest value, is its share of the attention"
    maps = draw_sheet(parse.text, [Heading("picture"), *_headings(parse)], names, rows, footer, ranges)
    report = {
        "settings": asdict(request) | {"seed": pair.seed} | pair.settings,
        "parse": {
            "text": parse.text,
            "told": str(parse),
            "without_attributes": parse.bare,
            "groups": _groups(pair.bound),
        },
        "maps": {version.name: _figures(version) for version in versions},
    }
    write_png(folder / "pictures.png", sheet, texts)
    write_png(folder / "maps.png", maps, texts)
    write_json(folder / "maps.json", report)


def overlap_line(parse: Parse, versions: Sequence[Version]) -> str:
    """Return in one line how much the maps of two things lie on each other, where there are two."""
    if len(parse.groups) < 2:
        return "one group: there is no other one whose map could lie on its own"
    means = []
    for version in versions:
        shared = overlap(version.recorder.mean()[0])
        pairs = shared[shared.new_ones(shared.shape).triu(1).bool()]
        means.append(f"{version.name} {pairs.mean().item():.2f}")
    return f"maps of two things lie on each other (0 apart, 1 the same): {', '.join(means)}"


def _headings(parse: Parse) -> list[Heading]:
    return [
        Heading(parse.words(group.subject), (" + ".join(map(parse.words, group.modifiers)),)) for group in parse.groups
    ]


def _overlays(version: Version) -> list[Image.Image]:
    return [overlay(version.drawn.pictures[0], weights) for weights in version.recorder.mean()[0]]


def _ranges(version: Version) -> list[str]:
    return [f"{weights.min():.3f} to {weights.max():.3f}" for weights in version.recorder.mean()[0]]


def _groups(bound: BoundPrompt) -> list[dict[str, Any]]:
    parse = bound.parse
    return [
        {
            "subject": parse.words(group.subject),
            "modifiers": [parse.words(span) for span in group.modifiers],
            "spans": {"subject": group.subject, "modifiers": group.modifiers},
            "rows": asdict(rows),
        }
        for group, rows in zip(parse.groups, bound.groups, strict=True)
    ]


def _figures(version: Version) -> dict[str, Any]:
    """Return a version's maps and what is measured on them, as JSON-able values; none of it is picture quality."""
    mean = version.recorder.mean()[0]  # [K, height, width]
    return {
        "calls": len(version.recorder.calls),
        "entropy_nats": entropy(mean).tolist(),
        "entropy_nats_by_call": [entropy(maps[0]).tolist() for maps in version.recorder.calls],
        "overlap": overlap(mean).tolist(),
        "mean": [[[round(x, 6) for x in line] for line in weights] for weights in mean.tolist()],
    }
