"""Merging methods as ways to draw, for the evaluation: it knows pictures and no merging."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ... import merging, speed
from ...demo.architecture import seeded
from ...evaluation import sampling
from ...evaluation.cases import Case
from ...evaluation.quality.method import BASELINE, Method, sources
from ...evaluation.sampling import Drawn, Settings, draw
from ...speed import SpeedHandle
from . import methods
from .methods import TOMESD, UNTOUCHED, LeftOutError, Merging


def drawing_method(merging_method: Merging) -> Method:
    """Return the method that draws with merged tokens; that of the untouched model is the evaluation's baseline."""
    if merging_method.kind == UNTOUCHED:
        return BASELINE
    own = merging_method.kind != TOMESD
    identity = {
        "kind": merging_method.kind,
        "config": asdict(merging_method.config),
        "given": sorted(merging_method.given) if not own else [],  # tomesd keeps its own defaults for the others
        "code": sources(*merging.__path__, *speed.__path__, sampling.__file__) if own else _tomesd_code(),
    }
    return Method(merging_method.name, identity, partial(draw_merged, merging_method))


def draw_merged(merging_method: Merging, pipeline: Any, cases: Sequence[Case], settings: Settings) -> Drawn:
    """Draw with merged tokens. tomesd draws kept tokens from torch's global generator, so that one is seeded."""
    with seeded(0), merging_method.on(pipeline):
        return draw(pipeline, [case.prompt for case in cases], [case.seed for case in cases], settings)


def try_out(merging_method: Merging, pipeline: Any, case: Case, settings: Settings) -> list[str]:
    """Draw one step of one picture; return what has no effect on a whole run or less than was asked for, in sentences.

    Raises `LeftOutError` for a method of another package that cannot take part, and `UserError` for a level that the
    model lacks.
    """
    whole = _Whole(pipeline.unet, deepcopy(pipeline.scheduler))
    whole.scheduler.set_timesteps(settings.steps)
    try:
        with seeded(0), merging_method.on(whole) as handle:
            draw(pipeline, [case.prompt], [case.seed], replace(settings, steps=1))
    except RuntimeError as error:
        if merging_method.kind != TOMESD:
            raise
        raise LeftOutError(f"it fails on this model and size with {type(error).__name__}: {error}") from error
    return handle.report.notes if isinstance(handle, SpeedHandle) else []


@dataclass
class _Whole:
    """What merging knows a pipeline by, about to draw every step."""

    unet: Any
    scheduler: Any


def _tomesd_code() -> str:
    try:
        return f"{sources(methods.__file__, sampling.__file__)} tomesd {version(TOMESD)}"
    except PackageNotFoundError:  # it will be left out
        return ""
