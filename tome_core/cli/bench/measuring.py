"""The work of a comparison: what is missing is drawn, all of it is read, and the methods are timed."""

from concurrent.futures import BrokenExecutor
from typing import Any

import torch

from ...evaluation.quality import Contest, Gate, Painter, Reader, missing_in_gate, run_gate
from ..console import UserError, progress
from ..machine import Clock
from .findings import Findings
from .rounds import ROUNDS, time_methods


def measure(
    contest: Contest,
    painter: Painter,
    reader: Reader,
    setting: dict[str, Any],
    gate_pictures: int | None,
    rounds: int = ROUNDS,
) -> Findings:
    """Draw what is missing, read all of it, and time the methods."""
    binds = reader.judged and any(entry.role == "control" for entry in contest.entries)
    gate = _paint(contest, painter, gate_pictures if binds else None)
    with progress(len(contest.entries) * len(contest.cases), "reading") as bar:
        readings = contest.read(painter, reader, bar.update)
    with progress(len(contest.entries) * rounds, "timing") as bar:
        clock, names = Clock(torch.device(painter.easel.model.device)), [entry.method for entry in contest.entries]
        times = time_methods(painter.easel, names, contest.cases[0], clock, setting["machine"], bar.update, rounds)
    return Findings(setting, contest, readings, times, gate if binds else None)


def _paint(contest: Contest, painter: Painter, gate_pictures: int | None) -> Gate:
    """Draw what is missing for the comparison, and for the gate where it is wanted."""
    total = contest.missing(painter) + (missing_in_gate(painter, gate_pictures) if gate_pictures else 0)
    try:
        with progress(total, "drawing") as bar:
            contest.paint(painter, bar.update)
            return run_gate(painter, gate_pictures, bar.update) if gate_pictures else Gate(())
    except BrokenExecutor as error:
        raise UserError(
            "a process that draws was ended, perhaps for want of memory; fewer --processes take less"
        ) from error
    except OSError as error:
        raise UserError(f"cannot write into {painter.easel.store.folder}: {error.strerror or error}") from error
