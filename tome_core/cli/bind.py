"""`tome bind PROMPT`: the usual picture, the picture with each thing bound to its attributes, and attention maps."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from ..attention_maps import record_maps
from ..bench.clock import Clock
from ..binding import BindingConfig, BoundPrompt, apply_binding, phrases
from ..errors import UserError, as_user_error
from ..speed import SpeedConfig, SpeedHandle
from .arguments import add_device, add_request
from .bind_files import Pair, Version, overlap_line, write_pair
from .console import DONE, INTERRUPTED, Parser, complain, note, progress
from .files import check_folder
from .libraries import quiet_diffusers
from .machine import choose_device, choose_dtype
from .models import one_thread, open_pipeline, warn_of_length
from .sampling import Request, draw, new_request, warn_of_demo
from .settings import add_binding_settings, add_settings, merge, new_binding_config, new_config

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


def execute(arguments: argparse.Namespace) -> int:
    """Read the prompt, draw it twice, write the files and print the result."""
    config = new_binding_config(arguments)
    speed = new_config({name: getattr(arguments, name) for name in _SPEED} | {"ratio": arguments.ratio or 0.0})
    with as_user_error():
        parse = phrases(arguments.prompt, arguments.groups)
    if arguments.parse:
        print(parse)
        return DONE
    if not parse.groups:
        raise UserError(f"prompt must say something of a thing, such as 'a red cat' or ~...~, got {parse.text!r}")
    device = choose_device(arguments.device)
    check_folder(arguments.out)
    warn_of_demo(arguments, parse.text)
    _warn(arguments, config, speed)
    with quiet_diffusers(), one_thread(arguments.model, device):
        dtype = choose_dtype(arguments.dtype, device)
        pipeline = open_pipeline(arguments.model, dtype=dtype, device=device, prediction_type=arguments.prediction_type)
        warn_of_length(pipeline, parse.text)
        bound = _read(pipeline, arguments)
        request = new_request(pipeline, arguments)
        with merge(pipeline, speed) as merging:
            print(parse)
            versions = _draw(pipeline, arguments, request, (BindingConfig(strength=0), config), merging, bound)
    settings = {"model": Path(arguments.model).name, "binding": asdict(config), "speed": asdict(speed)}
    write_pair(arguments.out, Pair(request, arguments.seed, bound, versions, settings))
    print(overlap_line(bound.parse, versions))
    print(f"\nOpen {arguments.out / 'pictures.png'} and {arguments.out / 'maps.png'}")
    if len(versions) == 2:
        return DONE
    complain("interrupted after 1 of 2 pictures; the files are of that one")
    return INTERRUPTED


def _read(pipeline: Any, arguments: argparse.Namespace) -> BoundPrompt:
    """Return the rows of the groups; raise `UserError` for a group that the model does not read whole."""
    with apply_binding(pipeline, parser=partial(phrases, listing=arguments.groups)) as handle, as_user_error():
        return handle.read(arguments.prompt)


def _warn(arguments: argparse.Namespace, config: BindingConfig, speed: SpeedConfig) -> None:
    """Note the settings that have no effect beside the others."""
    if config.is_neutral:
        note("strength 0 binds nothing: both pictures are the untouched one; above 0 they differ")
    idle = [f"--{name}" for name in _SPEED[1:] if getattr(arguments, name) is not None]
    if speed.is_neutral and idle:
        verb = "has" if len(idle) == 1 else "have"
        note(f"{' and '.join(idle)} {verb} no effect at ratio 0, which merges no image tokens; above 0 some merge")


def _draw(
    pipeline: Any,
    arguments: argparse.Namespace,
    request: Request,
    configs: Sequence[BindingConfig],
    merging: SpeedHandle,
    bound: BoundPrompt,
) -> list[Version]:
    """Return the pictures and their maps, one for each config; where an interrupt cut one off, those before it."""
    clock, versions = Clock(pipeline.device), []
    rows = [group.noun[0] for group in bound.groups]
    parser = partial(phrases, listing=arguments.groups)
    with progress(request.steps * len(configs), "drawing") as bar:
        try:
            for name, config in zip(("untouched", "bound"), configs, strict=True):
                with (
                    apply_binding(pipeline, config, parser=parser),
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
