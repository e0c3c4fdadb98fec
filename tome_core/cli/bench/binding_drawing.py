"""Binding methods as ways to draw, for the evaluation: it knows pictures and no binding."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from ... import binding, merging
from ...binding import BindingHandle
from ...evaluation import sampling
from ...evaluation.cases import Case
from ...evaluation.quality import Method, sources
from ...evaluation.sampling import Drawn, Settings, draw
from ..console import UserError
from . import binding_methods, isolation
from .binding_methods import Binding


def binding_method(bound: Binding) -> Method:
    """Return the method that draws bound prompts."""
    code = sources(
        *binding.__path__, *merging.__path__, binding_methods.__file__, isolation.__file__, sampling.__file__
    )
    identity = {"binds": "apart" if bound.config is None else asdict(bound.config), "code": code}
    return Method(bound.name, identity, partial(draw_bound, bound))


def draw_bound(bound: Binding, pipeline: Any, cases: Sequence[Case], settings: Settings) -> Drawn:
    """Draw with bound prompts."""
    with bound.on(pipeline, cases):
        return draw(pipeline, [case.prompt for case in cases], [case.seed for case in cases], settings)


def try_out_binding(bound: Binding, pipeline: Any, cases: Sequence[Case], settings: Settings) -> list[str]:
    """Read all prompts and draw one step of one picture; return what has no effect, in sentences.

    Raises `UserError` for a prompt that the parser refuses, or of which a group is cut off.
    """
    notes = bound.notes(cases)
    _read_all(bound, pipeline, cases)
    draw_bound(bound, pipeline, cases[:1], replace(settings, steps=1))
    return notes


def _read_all(bound: Binding, pipeline: Any, cases: Sequence[Case]) -> None:
    with bound.on(pipeline, cases) as handle:
        if not isinstance(handle, BindingHandle):
            return
        for prompt in dict.fromkeys(case.prompt for case in cases):
            try:
                handle.read(prompt)
            except ValueError as error:
                raise UserError(str(error)) from error
