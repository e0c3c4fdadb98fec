"""`tome bind PROMPT`: the usual picture, the picture with each thing bound to its attributes, and attention maps."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from .. import __version__
from ..attention_maps import MapRecorder, entropy, overlap, overlay, record_maps
from ..bench.clock import Clock
from ..bench.methods.merging import merge
from ..bench.sheet import Heading, draw_sheet
from ..binding import BindingConfig, BoundPrompt, Parse, apply_binding, phrases
from ..errors import UserError, as_user_error
from ..settings import kinds
from ..speed import SpeedConfig
from .arguments import add_device, add_request
from .console import DONE, INTERRUPTED, Parser, note, print_error, progress
from .files import check_folder, write_json, write_png
from .models import opened
from .sampling import Drawn, Request, draw, new_request
from .settings import Choice, add_binding_settings, add_settings, new_binding_config

DESCRIPTION: Final = """\
Draw a prompt twice from the same noise: as usual, and with each thing and its attributes bound into one token, so that
a red circle stays red (Hu et al. 2024). Writes three files into a folder: pictures.png, the two side by side; maps.png,
where the model looks for each thing; and maps.json, the same in numbers.

A thing and its attributes are a group. Rules find the groups in the prompt. You can mark one yourself: ~a red cat in a
hat~, with ^ before the thing if the rules would choose another word: ~a ^cat in a red box~. Or list them with --groups.
The demo model shows how binding works; to see how much it helps, use your own checkpoint."""
EXAMPLES: Final = """\
examples:
  tome bind "a red circle and a blue square"
  tome bind "a cat wearing sunglasses and a dog wearing a hat" --model sdxl.safetensors --size 1024
  tome bind "a cat and a dog, one in a hat" --groups "dog: in a hat; cat: one" --model folder
  tome bind "a white cat and a ~black ^dog~" --parse"""
_SPEED: Final = ("ratio", "levels", "parts")


def add_arguments(parser: Parser) -> None:
    """Add the prompt and everything that can be chosen beside it."""
    add_request(parser, negative="what to avoid in the picture; it is never bound")
    parser.add_argument("--groups", default="", metavar="LIST", help='"thing: words, words; thing: words"')
    parser.add_argument("--parse", action="store_true", help="print the groups of the prompt, and draw nothing")
    parser.add_argument("--out", type=Path, default=Path("tome-bind"), metavar="FOLDER", help="default ./%(default)s")
    add_binding_settings(parser)
    add_settings(parser, _SPEED)
    add_device(parser)


@dataclass(frozen=True)
class Version:
    """One of the two pictures, and the maps of its groups over the model calls."""

    name: str
    drawn: Drawn
    recorder: MapRecorder

    @property
    def maps(self) -> Tensor:
        """The mean over the calls, a map for each group [K, height, width]."""
        return self.recorder.mean()[0]


def execute(arguments: argparse.Namespace) -> int:
    """Read the prompt, draw it twice, write the files and print the result."""
    config = new_binding_config({name: getattr(arguments, name) for name in kinds(BindingConfig)}, arguments.preset)
    speed = Choice({name: getattr(arguments, name) for name in _SPEED} | {"ratio": arguments.ratio or 0.0}).config()
    parser = partial(phrases, listing=arguments.groups)
    with as_user_error():
        parse = parser(arguments.prompt)
    if arguments.parse:
        print(parse)
        return DONE
    if not parse.groups:
        raise UserError(f"prompt must say something of a thing, such as 'a red cat' or ~...~, got {parse.text!r}")
    check_folder(arguments.out)
    _warn(arguments, config, speed)
    with opened(arguments) as pipeline:
        request = new_request(pipeline, arguments, parse.text)
        with apply_binding(pipeline, parser=parser) as handle, as_user_error():
            bound = handle.read(arguments.prompt)
        with merge(pipeline, speed) as merging:
            print(parse)
            rows = [group.noun[0] for group in bound.groups]
            versions = _draw(pipeline, arguments, request, config, merging, rows)
    _write(arguments, request, bound, versions, {"binding": asdict(config), "speed": asdict(speed)})
    print(_overlap_line(bound.parse, versions))
    print(f"\nOpen {arguments.out / 'pictures.png'} and {arguments.out / 'maps.png'}")
    if len(versions) == 2:
        return DONE
    print_error("interrupted after 1 of 2 pictures; the files are of that one")
    return INTERRUPTED


def _warn(arguments: argparse.Namespace, config: BindingConfig, speed: SpeedConfig) -> None:
    """Note the settings that have no effect beside the others."""
    if config.is_neutral:
        note("strength 0 binds nothing: both pictures are the untouched one; above 0 they differ")
    idle = [f"--{name}" for name in _SPEED[1:] if getattr(arguments, name) is not None]
    if speed.is_neutral and idle:
        verb = "has" if len(idle) == 1 else "have"
        note(f"{' and '.join(idle)} {verb} no effect at ratio 0, which merges no image tokens; above 0 some merge")


def _draw(
    pipeline: Any, arguments: argparse.Namespace, request: Request, config: BindingConfig, merging: Any, rows: list[int]
) -> list[Version]:
    """Return the pictures and the maps of text rows, untouched and bound; after an interrupt the first alone."""
    clock, versions = Clock(pipeline.device), []
    with progress(2 * request.steps, "drawing") as bar:
        try:
            for name, binding in (("untouched", BindingConfig(strength=0)), ("bound", config)):
                with (
                    apply_binding(pipeline, binding, parser=partial(phrases, listing=arguments.groups)),
                    record_maps(pipeline, rows, merging=merging) as recorder,
                ):
                    drawn = draw(pipeline, request, [arguments.seed], clock, bar.update)
                versions.append(Version(name, drawn, recorder))
        except KeyboardInterrupt:
            if not versions:
                raise
    merged = [] if merging.config.is_neutral else merging.report.notes  # at ratio 0, that nothing is installed
    for sentence in dict.fromkeys([*merged, *(x for version in versions for x in version.recorder.notes)]):
        note(sentence)
    return versions


def _write(
    arguments: argparse.Namespace, request: Request, bound: BoundPrompt, versions: Sequence[Version], settings: Any
) -> None:
    """Write pictures.png, maps.png and maps.json; `settings` are JSON-able values beside those of the request."""
    folder, seed = arguments.out, arguments.seed
    parse, names = bound.parse, [version.name for version in versions]
    texts = {"prompt": request.prompt, "seed": str(seed), "tome_version": __version__}
    footer = f"tome-suite {__version__} · {request.summary} · seed {seed}"
    pictures = [version.drawn.pictures[0] for version in versions]
    sheet = draw_sheet(parse.text, [Heading(name) for name in names], [""], [pictures], footer)
    write_png(folder / "pictures.png", sheet, texts)
    headings = [
        Heading(parse.words(group.subject), (" + ".join(map(parse.words, group.modifiers)),)) for group in parse.groups
    ]
    pairs = list(zip(pictures, (version.maps for version in versions), strict=True))
    rows = [[picture, *(overlay(picture, weights) for weights in maps)] for picture, maps in pairs]
    ranges = [["", *(f"{weights.min():.3f} to {weights.max():.3f}" for weights in maps)] for _, maps in pairs]
    footer += " · below each map, from its darkest to its lightest value, is its share of the attention"
    sheet = draw_sheet(parse.text, [Heading("picture"), *headings], names, rows, footer, ranges)
    write_png(folder / "maps.png", sheet, texts)
    groups = {"text": parse.text, "told": str(parse), "without_attributes": parse.bare, "groups": _groups(bound)}
    figures = {version.name: _figures(version) for version in versions}
    settings = asdict(request) | {"seed": seed, "model": Path(arguments.model).name, **settings}
    write_json(folder / "maps.json", {"settings": settings, "parse": groups, "maps": figures})


def _overlap_line(parse: Parse, versions: Sequence[Version]) -> str:
    """Return in one line how much the maps of two things lie on each other, where there are two."""
    if len(parse.groups) < 2:
        return "one group: there is no other one whose map could lie on its own"
    means = []
    for version in versions:
        shared = overlap(version.maps)
        pairs = shared[shared.new_ones(shared.shape).triu(1).bool()]
        means.append(f"{version.name} {pairs.mean().item():.2f}")
    return f"maps of two things lie on each other (0 apart, 1 the same): {', '.join(means)}"


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
    mean = version.maps
    return {
        "calls": len(version.recorder.calls),
        "entropy_nats": entropy(mean).tolist(),
        "entropy_nats_by_call": [entropy(maps[0]).tolist() for maps in version.recorder.calls],
        "overlap": overlap(mean).tolist(),
        "mean": [[[round(x, 6) for x in line] for line in weights] for weights in mean.tolist()],
    }
