"""`tome bind PROMPT`: what it says of which thing, the picture with that bound beside the untouched one, and maps."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from ..binding import BindingConfig, BoundPrompt, Parse, apply_binding, phrases, record_maps
from ..checkpoints.prediction import PREDICTION_TYPES
from ..demo import DEMO_GUIDANCE
from ..speed import SpeedHandle
from .arguments import add_device, add_sampling, number
from .bind_files import Pair, Version, tell_overlap, write_pair
from .console import DONE, Parser, UserError, note, progress
from .files import check_folder
from .libraries import quiet_diffusers
from .machine import Clock, choose_device, choose_dtype
from .models import DEMO, default_size, open_pipeline, warn_of_length, warn_of_words
from .sampling import Request, draw
from .settings import add_binding_settings, add_settings, merge, new_binding_config, new_config

DESCRIPTION: Final = """\
Find what a prompt says of which thing, and draw it twice from the same noise: untouched, and with each thing and what
is said of it as one token (Hu et al. 2024). Leaves three files in a folder: pictures.png, the two side by side;
maps.png, where each thing draws attention in both; and maps.json, the same in numbers.

A group is found by rules, or marked in the prompt, ~a red cat in a hat~, with ^ before the thing where the rules would
take another: ~a ^cat in a red box~. Or --groups names them apart from the prompt. On the demo model you see how binding
works, not what it is worth: that is for a real checkpoint to show."""
EXAMPLES: Final = """\
examples:
  tome bind "a red circle and a blue square"
  tome bind "a cat wearing sunglasses and a dog wearing a hat" --model sdxl.safetensors --size 1024
  tome bind "a cat and a dog, one in a hat" --groups "dog: in a hat; cat: one" --model folder
  tome bind "a white cat and a ~black ^dog~" --parse"""
_SPEED: Final = ("ratio", "levels", "parts")


def add_arguments(parser: Parser) -> None:
    """Add the prompt and everything that can be chosen beside it."""
    parser.add_argument("prompt", metavar="PROMPT", help="what to draw")
    parser.add_argument("--groups", default="", metavar="LIST", help='"thing: words, words; thing: words"')
    parser.add_argument("--parse", action="store_true", help="tell what is said of which thing, and draw nothing")
    parser.add_argument("--model", default=DEMO, metavar="PATH", help="checkpoint or folder; default the demo model")
    parser.add_argument(
        "--prediction-type", choices=PREDICTION_TYPES, help="what a checkpoint predicts; default what it says itself"
    )
    parser.add_argument("--negative-prompt", default="", metavar="TEXT", help="what not to draw; it is never bound")
    parser.add_argument("--out", type=Path, default=Path("tome-bind"), metavar="FOLDER", help="default ./%(default)s")
    add_sampling(parser, steps=20)
    parser.add_argument("--guidance", type=number(0, 100), metavar="SCALE", help="how strongly the prompt rules")
    add_binding_settings(parser)
    add_settings(parser, _SPEED)
    add_device(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Read the prompt, draw it twice, write and tell."""
    config = new_binding_config(arguments)
    speed = new_config({name: getattr(arguments, name) for name in _SPEED} | {"ratio": arguments.ratio or 0.0})
    parse = _parse(arguments.prompt, arguments.groups)
    if arguments.parse:
        print(parse)
        return DONE
    if not parse.groups:
        raise UserError(f"prompt must say something of a thing, such as 'a red cat' or ~...~, got {parse.text!r}")
    device = choose_device(arguments.device)
    check_folder(arguments.out)
    if arguments.model == DEMO:
        warn_of_words([parse.text])
    with quiet_diffusers():
        dtype = choose_dtype(arguments.dtype, device)
        pipeline = open_pipeline(arguments.model, dtype=dtype, device=device, prediction_type=arguments.prediction_type)
        warn_of_length(pipeline, parse.text)
        bound = _read(pipeline, arguments)
        request = _request(pipeline, arguments)
        with merge(pipeline, speed) as merging:
            print(parse)
            versions = _draw(pipeline, arguments, request, (BindingConfig(strength=0), config), merging, bound)
    settings = {"model": Path(arguments.model).name, "binding": asdict(config), "speed": asdict(speed)}
    write_pair(arguments.out, Pair(request, arguments.seed, bound, versions, settings))
    print(tell_overlap(bound.parse, versions))
    print(f"\nOpen {arguments.out / 'pictures.png'} and {arguments.out / 'maps.png'}")
    return DONE


def _parse(prompt: str, groups: str) -> Parse:
    try:
        return phrases(prompt, groups)
    except ValueError as error:
        raise UserError(str(error)) from error


def _read(pipeline: Any, arguments: argparse.Namespace) -> BoundPrompt:
    """Return the rows of the groups; raise `UserError` for a group that the model does not read whole."""
    with apply_binding(pipeline, parser=partial(phrases, listing=arguments.groups)) as handle:
        try:
            return handle.read(arguments.prompt)
        except ValueError as error:
            raise UserError(str(error)) from error


def _request(pipeline: Any, arguments: argparse.Namespace) -> Request:
    width, height = arguments.size or default_size(pipeline.unet)
    guidance = DEMO_GUIDANCE if arguments.guidance is None and arguments.model == DEMO else arguments.guidance
    return Request(arguments.prompt, arguments.steps, width, height, guidance, arguments.negative_prompt)


def _draw(
    pipeline: Any,
    arguments: argparse.Namespace,
    request: Request,
    configs: Sequence[BindingConfig],
    merging: SpeedHandle,
    bound: BoundPrompt,
) -> list[Version]:
    clock, versions = Clock(pipeline.device), []
    rows = [group.noun[0] for group in bound.groups]
    parser = partial(phrases, listing=arguments.groups)
    with progress(request.steps * len(configs), "drawing") as bar:
        for name, config in zip(("untouched", "bound"), configs, strict=True):
            with (
                apply_binding(pipeline, config, parser=parser),
                record_maps(pipeline, rows, merging=merging) as recorder,
            ):
                # at strength 0 the marks would reach the model
                prompt = bound.parse.text if config.is_neutral else request.prompt
                drawn = draw(pipeline, replace(request, prompt=prompt), [arguments.seed], clock, bar.update)
            versions.append(Version(name, drawn, recorder))
    for sentence in dict.fromkeys(sentence for version in versions for sentence in version.recorder.notes):
        note(sentence)
    return versions
