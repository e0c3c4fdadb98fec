"""What a comparison is about: prompts, the model that draws them, and who reads its pictures."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ...demo import DEMO_GUIDANCE, untaught_words
from ...evaluation.cases import Case
from ...evaluation.quality import AnyModel, Easel, Model, Reader, Store
from ...evaluation.sampling import Settings
from ...evaluation.suites import Suite, load_suite, read_prompts
from ..console import UserError, note, waiting
from ..machine import Clock, choose_device, choose_dtype, describe, usable_cores
from ..models import DEMO, default_size
from .checkpoint_model import CheckpointModel

SUITE: Final = "two-colours"
SPLIT: Final = "held-out"
MOST_PROCESSES: Final = 8
DEMO_SIZE: Final = 256  # pixels a side
CHECKPOINT_GUIDANCE: Final = 7.5  # that of Hu et al. 2024
_ALONE: Final = 1  # pictures denoised together by a checkpoint, of which eight may be more than a GPU holds


@dataclass(frozen=True)
class Subject:
    """The model at its easel, how many processes draw, and who reads the pictures."""

    easel: Easel
    processes: int
    reader: Reader

    @property
    def is_demo(self) -> bool:
        """Whether the demo model draws, whose pictures a judge can read."""
        return isinstance(self.easel.model, Model)


def choose_suite(arguments: argparse.Namespace, most: int) -> tuple[Suite, list[Case]]:
    """Return the prompts, and the cases of them; without --prompts these are of `most` prompts, or of all if fewer.

    Raises `UserError`.
    """
    path: Path | None = arguments.prompts_file
    try:
        suite = load_suite(arguments.suite or SUITE) if path is None else read_prompts(path)
        split = (arguments.split or SPLIT) if path is None else "held-out"
        count = arguments.prompts or max(1, min(most, len(suite.parts[split])))
        cases = suite.cases(split, count, arguments.seeds)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(str(error)) from error
    if path is not None and arguments.model == DEMO:
        _warn_of_words([case.prompt for case in cases])
    return suite, cases


def open_subject(arguments: argparse.Namespace, suite: Suite) -> Subject:
    """Open the model and the reader. Raises `UserError`, and what opening a checkpoint raises."""
    device = choose_device(arguments.device)
    is_demo = arguments.model == DEMO
    model: AnyModel = Model(arguments.checkpoint, str(device))
    if not is_demo:
        dtype = str(choose_dtype(arguments.dtype, device)).removeprefix("torch.")
        model = CheckpointModel(arguments.model, str(device), dtype)
    width, height = arguments.size or (DEMO_SIZE, DEMO_SIZE)
    if width != height:
        raise UserError(f"size must be one side for square pictures, got {width}x{height}")
    with waiting("opening the demo model" if is_demo else f"opening {arguments.model}"):
        pipeline = model.open()
        try:
            reader = Reader(arguments.checkpoint if is_demo else None, judged=suite.judged and is_demo)
        except ValueError as error:
            raise UserError(str(error)) from error
    side = width if is_demo or arguments.size else default_size(pipeline.unet)[0]
    guidance = arguments.guidance or (DEMO_GUIDANCE if is_demo else CHECKPOINT_GUIDANCE)
    easel = Easel(model, Settings(arguments.steps, guidance, side), Store(arguments.cache))
    if not is_demo:
        easel = Easel(easel.model, easel.settings, easel.store, batch=_ALONE)
    usual = min(usable_cores(), MOST_PROCESSES) if is_demo else 1
    return Subject(easel, (arguments.processes or usual) if device.type == "cpu" else 1, reader)


def tell_setting(
    arguments: argparse.Namespace, subject: Subject, suite: Suite, cases: Sequence[Case]
) -> dict[str, Any]:
    """Return what was asked for and on what, as JSON-able values."""
    device = choose_device(arguments.device)
    asked = {
        "split": (arguments.split or SPLIT) if arguments.prompts_file is None else None,
        "prompts": len(cases) // arguments.seeds,
        "seeds": arguments.seeds,
    }
    told = {name: getattr(suite, name) for name in ("name", "about", "attribute", "untaught")}
    name = arguments.checkpoint.name if subject.is_demo else Path(arguments.model).name
    return {
        "machine": describe(device),
        "clock": Clock(device).name,
        "model": {"checkpoint": name, **subject.easel.model.identity},
        "settings": asdict(subject.easel.settings),
        "suite": told | {"judged": subject.reader.judged} | asked,
    }


def _warn_of_words(prompts: Sequence[str]) -> None:
    different = list(dict.fromkeys(prompts))
    strange = [prompt for prompt in different if untaught_words(prompt)]
    if strange:
        example = untaught_words(strange[0])[0]
        count = f"{len(strange)} of {len(different)} prompts"
        note(
            f"the demo model was not taught words of {count}, such as {example!r}; --model takes a checkpoint of yours"
        )
