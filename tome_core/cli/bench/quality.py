"""`tome bench quality`: what merging does to pictures, against the untouched ones of the same prompts and noise."""

import argparse
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from ...bench.drawing.models import DEMO_SIZE, PictureModel
from ...bench.drawing.sampling import Settings
from ...bench.methods.reading import SHARED, read_methods
from ...bench.suites import SPLITS, SUITES, Suite, load_suite, read_prompts
from ...demo import CHECKPOINT, DEMO_GUIDANCE, untaught_words
from ...errors import UserError, as_user_error
from ...files import write_whole
from ..arguments import add_device, number, size, whole
from ..console import DONE, INTERRUPTED, Parser, note, print_error, progress, waiting
from ..files import check_file, check_folder, write_json, write_png
from ..models import DEMO, choose_device, choose_dtype, default_size, quiet_diffusers
from ..settings import add_settings

DESCRIPTION: Final = """\
Draw the same prompts from the same noise with the demo model, untouched and merged, and show how many pictures are
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
SUITE: Final = "two-colours"
SPLIT: Final = "held-out"
MOST_PROMPTS: Final = 100
MOST_PROCESSES: Final = 8
CHECKPOINT_GUIDANCE: Final = 7.5  # that of Hu et al. 2024


def add_arguments(parser: Parser) -> None:
    """Add what can be chosen; nothing has to be."""
    add_comparison(parser, "ours", help="as of tome bench speed or tome bench binding")
    add_settings(parser, SHARED)


def execute(arguments: argparse.Namespace) -> int:
    """Draw, read, compare and print."""
    return compare(arguments)


def add_comparison(parser: Parser, methods: str, *, help: str) -> None:
    """Add what the comparisons of pictures share. `methods` are those that are compared if none are named."""
    parser.add_argument("--methods", default=methods, metavar="METHOD,...", help=f"{help}; default %(default)s")
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
    _add_pictures(parser)
    group = parser.add_argument_group("results")
    group.add_argument("--json", type=Path, metavar="FILE", help="every figure")
    group.add_argument("--markdown", type=Path, metavar="FILE", help="the tables, as they are printed")
    group.add_argument("--plot", type=Path, metavar="FILE", help="a .png of the figures with their intervals")
    group.add_argument("--sheet", type=Path, metavar="FILE", help="a .png of pictures on which the methods disagree")


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
    group.add_argument("--rounds", type=whole(1, 1000), default=3, metavar="N", help="of timing, default %(default)s")


def compare(arguments: argparse.Namespace) -> int:
    """Draw, read, compare and print what the arguments of `add_comparison` ask for."""
    missing = [name for name in ("scipy", "joblib") if find_spec(name) is None]
    if missing:
        named = " and ".join(missing)
        raise UserError(f"this needs {named}, which is not installed here: pip install 'tome-suite[bench]'")
    from ...bench.quality.comparison import QualityComparison  # only where its libraries are

    methods = read_methods(arguments.methods, {name: getattr(arguments, name, None) for name in SHARED})
    suite, split, prompts = _choose_prompts(arguments)
    _check_outputs(arguments)
    with quiet_diffusers():
        runner = _open(arguments)
        comparison = QualityComparison(
            methods, suite, split, prompts, arguments.seeds, runner, arguments.rounds, not arguments.skip_gate
        )
        with as_user_error():
            cases = comparison.cases
        _note_limits(arguments, comparison, [case.prompt for case in cases])
        try:
            report = comparison.measure(progress)
        except KeyboardInterrupt:
            print_error(f"interrupted; what is drawn is kept in {arguments.cache}, and the same command goes on there")
            return INTERRUPTED
    print(report.text)
    _write(arguments, report, runner)
    return DONE


def _choose_prompts(arguments: argparse.Namespace) -> tuple[Suite, Any, int]:
    """Return the suite, its part, and how many prompts: without --prompts `MOST_PROMPTS`, or all if fewer."""
    path: Path | None = arguments.prompts_file
    try:
        with as_user_error():
            suite = load_suite(arguments.suite or SUITE) if path is None else read_prompts(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    split = SPLIT if arguments.split is None or path is not None else arguments.split
    return suite, split, arguments.prompts or max(1, min(MOST_PROMPTS, len(suite.parts[split])))


def _open(arguments: argparse.Namespace) -> Any:
    """Return the runner of the model that was asked for."""
    from ...bench.drawing.runner import BATCH, Runner

    device, is_demo = choose_device(arguments.device), arguments.model == DEMO
    dtype = "float32" if is_demo else str(choose_dtype(arguments.dtype, device)).removeprefix("torch.")
    model = PictureModel(arguments.checkpoint if is_demo else Path(arguments.model), str(device), dtype, is_demo)
    width, height = arguments.size or (DEMO_SIZE, DEMO_SIZE)
    if width != height:
        raise UserError(f"size must be one side for square pictures, got {width}x{height}")
    with waiting("opening the demo model" if is_demo else f"opening {arguments.model}"):
        pipeline = model.open()
    side = width if is_demo or arguments.size else default_size(pipeline.unet)[0]
    guidance = arguments.guidance or (DEMO_GUIDANCE if is_demo else CHECKPOINT_GUIDANCE)
    usual = min(_usable_cores(), MOST_PROCESSES) if is_demo else 1
    processes = (arguments.processes or usual) if device.type == "cpu" else 1
    batch = BATCH if is_demo else 1  # eight may be more than a GPU holds
    return Runner(model, Settings(arguments.steps, guidance, side), arguments.cache, processes, batch)


def _note_limits(arguments: argparse.Namespace, comparison: Any, prompts: list[str]) -> None:
    """Note what is not known of the pictures, and the settings without effect."""
    suite, is_demo, alone = (
        comparison.suite,
        comparison.runner.model.is_demo,
        "only the distance to the untouched pictures is shown",
    )
    if not is_demo:
        note(f"the judge knows the demo model's pictures alone: {alone}, and --sheet shows pictures to look at")
    else:
        _note_words(list(dict.fromkeys(prompts)) if suite.is_file else [])
        if suite.untaught:
            note(f"suite {suite.name} asks for {suite.untaught}, which the weights of this package were not taught")
        if not suite.judged:
            note(f"the judge knows no {suite.attribute}: {alone}")
    if arguments.skip_gate and not (suite.binds and comparison.is_judged):
        note(f"--skip-gate has no effect: suite {suite.name} has no binding figures, for which alone the gate is run")
    idle = [f"--{name}" for name in ("suite", "split") if suite.is_file and getattr(arguments, name) is not None]
    if idle:
        verb = "has" if len(idle) == 1 else "have"
        note(f"{' and '.join(idle)} {verb} no effect beside --prompts-file, which is instead of a suite")
    if arguments.processes is not None and choose_device(arguments.device).type != "cpu":
        note("--processes has no effect on a GPU, where one process draws")
    if arguments.checkpoint != CHECKPOINT and not is_demo:
        note("--checkpoint has no effect beside --model: it names other weights of the demo model")
    if arguments.dtype is not None and is_demo:
        note("--dtype has no effect on the demo model, which is compared in float32")


def _note_words(prompts: list[str]) -> None:
    strange = [prompt for prompt in prompts if untaught_words(prompt)]
    if strange:
        count = f"{len(strange)} of {len(prompts)} prompts, such as {untaught_words(strange[0])[0]!r}"
        note(f"the demo model was not taught words of {count}; --model takes a checkpoint of yours")


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Raise `UserError` for a file that cannot be written or made, before any work."""
    for name, suffix in (("json", ".json"), ("markdown", ".md"), ("plot", ".png"), ("sheet", ".png")):
        if getattr(arguments, name) is not None:
            check_file(getattr(arguments, name), suffix, name)
    check_folder(arguments.cache)
    if arguments.plot is not None and find_spec("matplotlib") is None:
        raise UserError("--plot needs matplotlib, which is not installed here: pip install 'tome-suite[plot]'")


def _write(arguments: argparse.Namespace, report: Any, runner: Any) -> None:
    """Write the files that were asked for and name them."""
    from ...bench.quality.contact_sheet import contact_sheet
    from ...bench.quality.plot import plot

    if arguments.json is not None:
        write_json(arguments.json, report.as_dict())
    if arguments.markdown is not None:
        write_whole(arguments.markdown, f"{report.text}\n".encode())
    if arguments.plot is not None:
        write_whole(arguments.plot, plot(report.figures, report.gate, report.title))
    written = [path for path in (arguments.json, arguments.markdown, arguments.plot) if path is not None]
    if arguments.sheet is not None:
        sheet = contact_sheet(report, runner)
        if sheet is None:
            note("no sheet is written: the methods agree on which pictures are fully right")
        else:
            write_png(arguments.sheet, sheet)
            written.append(arguments.sheet)
    for path in written:
        print(f"wrote {path}")


def _usable_cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
