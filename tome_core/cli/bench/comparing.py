"""What `tome bench quality` and `tome bench binding` share: their arguments, and the comparison from there on."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ...demo import CHECKPOINT, DEMO_GUIDANCE
from ...evaluation.cases import Case
from ...evaluation.quality import PICTURES, Painter
from ...evaluation.suites import SPLITS, SUITES, Suite
from ..arguments import add_device, number, size, whole
from ..console import DONE, INTERRUPTED, Parser, complain, note
from ..files import check_folder
from ..libraries import quiet_diffusers
from ..machine import choose_device
from ..models import DEMO
from .binding_methods import Binding, count_listed
from .entering import Written, enter, read_methods
from .findings import Outputs
from .measuring import measure
from .methods import SHARED
from .rounds import ROUNDS
from .subjects import (
    CHECKPOINT_GUIDANCE,
    DEMO_SIZE,
    MOST_PROCESSES,
    SPLIT,
    SUITE,
    Subject,
    choose_suite,
    open_subject,
    tell_setting,
)

MOST_PROMPTS: Final = 100


def add_comparison(parser: Parser, methods: str, *, help: str) -> None:
    """Add what can be chosen; nothing has to be. `methods` are those that are compared if none are named."""
    parser.add_argument("--methods", default=methods, metavar="METHOD,...", help=f"{help}; default %(default)s")
    _add_prompts(parser)
    _add_model(parser)
    _add_pictures(parser)
    group = parser.add_argument_group("results")
    group.add_argument("--json", type=Path, metavar="FILE", help="every figure")
    group.add_argument("--markdown", type=Path, metavar="FILE", help="the tables, as they are told")
    group.add_argument("--plot", type=Path, metavar="FILE", help="a .png of the figures with their intervals")
    group.add_argument("--sheet", type=Path, metavar="FILE", help="a .png of pictures on which the methods disagree")


def compare(arguments: argparse.Namespace) -> int:
    """Draw, read, compare and tell."""
    methods = read_methods(arguments.methods, {name: getattr(arguments, name, None) for name in SHARED})
    suite, cases = choose_suite(arguments, MOST_PROMPTS)
    outputs = Outputs(arguments.json, arguments.markdown, arguments.plot, arguments.sheet)
    outputs.check()
    check_folder(arguments.cache)
    with quiet_diffusers():
        subject = open_subject(arguments, suite)
        contest, left_out = enter(methods, subject.easel, cases, controls=suite.binds and subject.is_demo)
        _tell_limits(subject, suite, arguments)
        setting = tell_setting(arguments, subject, suite, cases) | {
            "left_out": left_out,
            **_tell_groups(methods, cases),
        }
        gate = None if arguments.skip_gate else PICTURES
        with Painter(subject.easel, subject.processes) as painter:
            try:
                findings = measure(contest, painter, subject.reader, setting, gate, arguments.rounds)
            except KeyboardInterrupt:
                complain(f"interrupted; what is drawn is kept in {arguments.cache}, and the same command goes on there")
                return INTERRUPTED
    print(findings.text)
    outputs.write(findings, subject.easel)
    return DONE


def _add_prompts(parser: Parser) -> None:
    group = parser.add_argument_group("prompts")
    group.add_argument("--suite", choices=SUITES, help=f"default {SUITE}")
    group.add_argument("--split", choices=SPLITS, help=f"default {SPLIT}")
    group.add_argument(
        "--prompts-file", type=Path, metavar="FILE", help="instead: a prompt a line, as T2I-CompBench has them"
    )
    group.add_argument(
        "--prompts", type=whole(1, 10**6), metavar="N", help=f"the first N; default {MOST_PROMPTS}, or all if fewer"
    )
    group.add_argument(
        "--seeds", type=whole(1, 1000), default=4, metavar="K", help="pictures a prompt, default %(default)s"
    )
    group.add_argument(
        "--skip-gate", action="store_true", help="do without the binding gate, and have it said beside the figures"
    )


def _add_model(parser: Parser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        default=DEMO,
        metavar="PATH",
        help="checkpoint or folder, whose pictures nothing judges; default the demo model",
    )
    group.add_argument(
        "--checkpoint", type=Path, default=CHECKPOINT, metavar="FILE", help="other weights of the demo model"
    )
    add_device(parser)


def _add_pictures(parser: Parser) -> None:
    group = parser.add_argument_group("pictures")
    group.add_argument("--steps", type=whole(1, 1000), default=20, metavar="N", help="default %(default)s")
    group.add_argument(
        "--guidance",
        type=number(1.1, 100),
        metavar="SCALE",
        help=f"default {DEMO_GUIDANCE:g} for the demo model, {CHECKPOINT_GUIDANCE:g} for others",
    )
    group.add_argument(
        "--size",
        type=size,
        metavar="PX",
        help=f"side in pixels, default {DEMO_SIZE} for the demo model, for others what they were made for",
    )
    group.add_argument(
        "--cache", type=Path, default=Path("tome-quality"), metavar="FOLDER", help="of pictures; default ./%(default)s"
    )
    group.add_argument(
        "--processes",
        type=whole(1, 64),
        metavar="N",
        help=f"that draw on a CPU, default one a core, at most {MOST_PROCESSES}, and one for a checkpoint",
    )
    group.add_argument(
        "--rounds", type=whole(1, 1000), default=ROUNDS, metavar="N", help="of timing, default %(default)s"
    )


def _tell_groups(methods: Sequence[Written], cases: Sequence[Case]) -> dict[str, int]:
    """Note in how many prompts the suite, and no parser, says what binding binds; return it for the results."""
    if not any(isinstance(method, Binding) and method.config is not None for method in methods):
        return {}
    listed, prompts = count_listed(cases)
    if listed:
        note(f"the groups of {listed} of {prompts} prompts are listed by their suite: the parser reads these otherwise")
    return {"listed_prompts": listed}


def _tell_limits(subject: Subject, suite: Suite, arguments: argparse.Namespace) -> None:
    """Note what nobody can tell of the pictures, and the settings without effect."""
    for sentence in _limits(subject, suite):
        note(sentence)
    if arguments.skip_gate and not (suite.binds and subject.reader.judged):
        note(f"--skip-gate has no effect: suite {suite.name} has no binding figures, for which alone the gate is run")
    idle = [f"--{name}" for name in ("suite", "split") if getattr(arguments, name) is not None]
    if arguments.prompts_file is not None and idle:
        verb = "has" if len(idle) == 1 else "have"
        note(f"{' and '.join(idle)} {verb} no effect beside --prompts-file, which is instead of a suite")
    if arguments.processes is not None and choose_device(arguments.device).type != "cpu":
        note("--processes has no effect on a GPU, where one process draws")
    if arguments.checkpoint != CHECKPOINT and not subject.is_demo:
        note("--checkpoint has no effect beside --model: it names other weights of the demo model")
    if arguments.dtype is not None and subject.is_demo:
        note("--dtype has no effect on the demo model, which is compared in float32")


def _limits(subject: Subject, suite: Suite) -> list[str]:
    alone = "only the distance to the untouched pictures is told"
    if not subject.is_demo:
        return [f"the judge knows the demo model's pictures alone: {alone}, and --sheet shows pictures to look at"]
    told = []
    if suite.untaught:
        told.append(f"suite {suite.name} asks for {suite.untaught}, which the weights of this package were not taught")
    if not suite.judged:
        told.append(f"the judge knows no {suite.attribute}: {alone}")
    return told
