"""`tome bench quality`: what merging does to pictures, against the untouched ones of the same prompts and noise."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from ...demo import CHECKPOINT, DEMO_GUIDANCE
from ...evaluation.cases import Case
from ...evaluation.quality import (
    BASELINE,
    CONTROLS,
    PICTURES,
    Contest,
    Easel,
    Entry,
    Model,
    Painter,
    Reader,
    Store,
)
from ...evaluation.sampling import Settings
from ...evaluation.suites import SPLITS, SUITES, Suite, load_suite
from ..arguments import add_device, number, size, whole
from ..console import DONE, INTERRUPTED, Parser, UserError, complain, note, waiting
from ..files import check_folder
from ..libraries import quiet_diffusers
from ..machine import Clock, choose_device, describe, usable_cores
from ..settings import add_settings
from .drawing import drawing_method, try_out
from .findings import Outputs
from .measuring import measure
from .methods import OURS, SHARED, UNTOUCHED, LeftOutError, Merging, parse_methods

DESCRIPTION: Final = """\
Draw the same prompts from the same noise with the demo model, untouched and merged, and tell how many pictures are
fully right, what is wrong with the others, and how far all of them are from the untouched ones, with intervals and
tests by prompt. Prompts of several objects come with two controls: each phrase drawn in a region of its own, and the
attributes shuffled. Every picture is kept, so an interrupted run goes on where it was. The first run takes long."""
EXAMPLES: Final = f"""\
examples:
  tome bench quality --prompts 20 --seeds 2
  tome bench quality --methods ours:ratio=0.25,ours,ours:ratio=0.75 --json quality.json --plot quality.png
  tome bench quality --methods ours:preset=gentle,ours:preset=balanced,ours:preset=fast --prompts 20
  tome bench quality --methods ours,tomesd --suite single --split seen --prompts 30 --sheet disagree.png

suites: {", ".join(SUITES)}"""
_MOST_PROCESSES: Final = 8


def add_arguments(parser: Parser) -> None:
    """Add what can be chosen; nothing has to be."""
    parser.add_argument(
        "--methods", default=OURS, metavar="METHOD,...", help="as of tome bench speed; default %(default)s"
    )
    group = parser.add_argument_group("prompts")
    group.add_argument("--suite", choices=SUITES, default="two-colours", help="default %(default)s")
    group.add_argument("--split", choices=SPLITS, default="held-out", help="default %(default)s")
    group.add_argument("--prompts", type=whole(1, 10**6), default=100, metavar="N", help="default %(default)s")
    group.add_argument(
        "--seeds", type=whole(1, 1000), default=4, metavar="K", help="pictures a prompt, default %(default)s"
    )
    group.add_argument(
        "--skip-gate", action="store_true", help="do without the binding gate, and have it said beside the figures"
    )
    _add_pictures(parser)
    add_settings(parser, SHARED)
    add_device(parser, dtype=False)
    group = parser.add_argument_group("results")
    group.add_argument("--json", type=Path, metavar="FILE", help="every figure")
    group.add_argument("--markdown", type=Path, metavar="FILE", help="the tables, as they are told")
    group.add_argument("--plot", type=Path, metavar="FILE", help="a .png of the figures with their intervals")
    group.add_argument("--sheet", type=Path, metavar="FILE", help="a .png of pictures on which the methods disagree")


def _add_pictures(parser: Parser) -> None:
    group = parser.add_argument_group("pictures")
    group.add_argument("--checkpoint", type=Path, default=CHECKPOINT, metavar="FILE", help="other weights of the model")
    group.add_argument("--steps", type=whole(1, 1000), default=20, metavar="N", help="default %(default)s")
    group.add_argument(
        "--guidance", type=number(1.1, 100), default=DEMO_GUIDANCE, metavar="SCALE", help="default %(default)s"
    )
    group.add_argument("--size", type=size, default=(256, 256), metavar="PX", help="side in pixels, default 256")
    group.add_argument(
        "--cache", type=Path, default=Path("tome-quality"), metavar="FOLDER", help="of pictures; default ./%(default)s"
    )
    group.add_argument(
        "--processes",
        type=whole(1, 64),
        metavar="N",
        help=f"that draw on a CPU, default one a core, at most {_MOST_PROCESSES}",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Draw, read, compare and tell."""
    methods = parse_methods(arguments.methods, {name: getattr(arguments, name) for name in SHARED})
    suite, cases = _choose_cases(arguments)
    outputs = Outputs(arguments.json, arguments.markdown, arguments.plot, arguments.sheet)
    outputs.check(suite)
    check_folder(arguments.cache)
    easel, processes = _choose_easel(arguments)
    with quiet_diffusers():
        reader = _open(easel.model, suite)
        contest, left_out = _enter(methods, easel, suite, cases)
        _tell_limits(suite, arguments)
        setting = _setting(arguments, suite, easel, left_out)
        with Painter(easel, processes) as painter:
            try:
                findings = measure(contest, painter, reader, setting, None if arguments.skip_gate else PICTURES)
            except KeyboardInterrupt:
                complain(f"interrupted; what is drawn is kept in {arguments.cache}, and the same command goes on there")
                return INTERRUPTED
    print(findings.text)
    outputs.write(findings, easel)
    return DONE


def _choose_cases(arguments: argparse.Namespace) -> tuple[Suite, list[Case]]:
    suite = load_suite(arguments.suite)
    try:
        return suite, suite.cases(arguments.split, arguments.prompts, arguments.seeds)
    except ValueError as error:
        raise UserError(str(error)) from error


def _choose_easel(arguments: argparse.Namespace) -> tuple[Easel, int]:
    """Return what pictures depend on, and how many processes draw them."""
    device = choose_device(arguments.device)
    width, height = arguments.size
    if width != height:
        raise UserError(f"size must be one side for square pictures, got {width}x{height}")
    easel = Easel(
        Model(arguments.checkpoint, str(device)),
        Settings(arguments.steps, arguments.guidance, width),
        Store(arguments.cache),
    )
    cores = min(usable_cores(), _MOST_PROCESSES)
    return easel, (arguments.processes or cores) if device.type == "cpu" else 1


def _open(model: Model, suite: Suite) -> Reader:
    with waiting("opening the demo model"):
        model.open()
        try:
            return Reader(model.checkpoint, judged=suite.judged)
        except ValueError as error:
            raise UserError(str(error)) from error


def _enter(
    methods: list[Merging], easel: Easel, suite: Suite, cases: list[Case]
) -> tuple[Contest, list[dict[str, str]]]:
    """Return who takes part, after one step of each, and what was left out and why."""
    entries, left_out = [Entry(BASELINE, "baseline")], []
    if suite.binds:
        entries += [Entry(control, "control") for control in CONTROLS]
    for method in (method.fitted(easel.model.open().unet) for method in methods):
        if method.kind == UNTOUCHED:
            continue
        try:
            for sentence in try_out(method, easel.model.open(), cases[0], easel.settings):
                note(f"{method.name}: {sentence}")
            entries.append(Entry(drawing_method(method), "method"))
        except LeftOutError as reason:
            left_out.append({"method": method.name, "reason": str(reason)})
            note(f"{method.name} is left out: {reason}")
    return Contest(tuple(entries), cases), left_out


def _tell_limits(suite: Suite, arguments: argparse.Namespace) -> None:
    if suite.untaught:
        note(f"suite {suite.name} asks for {suite.untaught}, which the weights of this package were not taught")
    if not suite.judged:
        note(f"the judge knows no {suite.attribute}: only the distance to the untouched pictures is told")
    if arguments.skip_gate and not (suite.binds and suite.judged):
        note(f"--skip-gate has no effect: suite {suite.name} has no binding figures, for which alone the gate is run")
    if arguments.processes is not None and choose_device(arguments.device).type != "cpu":
        note("--processes has no effect on a GPU, where one process draws")


def _setting(
    arguments: argparse.Namespace, suite: Suite, easel: Easel, left_out: list[dict[str, str]]
) -> dict[str, Any]:
    """Return what was asked for and on what, as JSON-able values."""
    device = choose_device(arguments.device)
    asked = {name: getattr(arguments, name) for name in ("split", "prompts", "seeds")}
    told = {name: getattr(suite, name) for name in ("name", "about", "attribute", "untaught", "judged")}
    return {
        "machine": describe(device),
        "clock": Clock(device).name,
        "model": {"checkpoint": arguments.checkpoint.name, **easel.model.identity},
        "settings": asdict(easel.settings),
        "suite": told | asked,
        "left_out": left_out,
    }
