"""Who takes part in a comparison: from methods as a user writes them to ways to draw, each tried before the work."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...evaluation.cases import Case
from ...evaluation.quality import BASELINE, CONTROLS, Contest, Easel, Entry, Method
from ..console import UserError, note
from .binding_drawing import binding_method, try_out_binding
from .binding_methods import BINDINGS, Binding, parse_binding
from .drawing import drawing_method, try_out
from .methods import MERGINGS, UNTOUCHED, LeftOutError, Merging, parse_method, split_methods

Written = Merging | Binding


def read_methods(text: str, shared: Mapping[str, Any]) -> list[Written]:
    """Return the methods of a list, merging and binding ones, without the untouched model. Raises `UserError`."""
    return [_read_method(item, shared) for item in split_methods(text) if item != UNTOUCHED]


def enter(
    methods: Sequence[Written], easel: Easel, cases: Sequence[Case], *, controls: bool
) -> tuple[Contest, list[dict[str, str]]]:
    """Return who takes part, after one step of each, and what was left out and why."""
    entries, left_out = [Entry(BASELINE, "baseline")], []
    if controls:
        entries += [Entry(control, "control") for control in CONTROLS]
    for method in methods:
        try:
            entries.append(Entry(_try_out(method, easel, cases), "method"))
        except LeftOutError as reason:
            left_out.append({"method": method.name, "reason": str(reason)})
            note(f"{method.name} is left out: {reason}")
    return Contest(tuple(entries), cases), left_out


def _read_method(item: str, shared: Mapping[str, Any]) -> Written:
    kind = item.partition(":")[0]
    if kind in BINDINGS:
        return parse_binding(item)
    if kind in MERGINGS:
        return parse_method(item, shared)
    raise UserError(f"methods must be among {', '.join((UNTOUCHED, *MERGINGS, *BINDINGS))}, got {item!r}")


def _try_out(method: Written, easel: Easel, cases: Sequence[Case]) -> Method:
    pipeline = easel.model.open()
    if isinstance(method, Binding):
        notes, drawing = try_out_binding(method, pipeline, cases, easel.settings), binding_method(method)
    else:
        fitted = method.fitted(pipeline.unet)
        notes, drawing = try_out(fitted, pipeline, cases[0], easel.settings), drawing_method(fitted)
    for sentence in notes:
        note(f"{method.name}: {sentence}")
    return drawing
