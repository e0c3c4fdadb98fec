"""The figures as markdown, set so that a terminal shows them in columns, too."""

from collections.abc import Sequence
from typing import Final

from ..judge.scoring import ERRORS
from ..table import table
from .figures import COMPARED, MethodFigures
from .gate import Gate
from .statistics import Difference

UNFAIR: Final = "†"
_ABSENT: Final = "-"


def markdown(results: Sequence[MethodFigures], gate: Gate | None) -> str:
    """Return tables of what the judge found, of how that differs from the untouched pictures, and of all distances.

    gate: None where no figure is of binding. Where it does not pass, every binding figure is marked for that.
    """
    mark = "" if gate is None or gate.passes else f" {UNFAIR}"
    parts = [*_judged_tables(results, mark)] if "fully_right" in results[0].tallies else []
    near = ["distance", "PSNR", "SSIM", "latent deviation", "CLIP distance", "time"]
    parts.append(table(near, [_nearness(result) for result in results[1:]], markdown=True))
    if gate is not None:
        parts.append(f"{mark} {gate.sentence}.".lstrip())
    return "\n\n".join(parts)


def _judged_tables(results: Sequence[MethodFigures], mark: str) -> tuple[str, str]:
    kinds = [name for name in results[0].tallies if name not in COMPARED]
    found = ["judged", "fully right", "present", "binding error given presence", *kinds]
    change = ["against untouched", "fully right", "p", "present", "p", "binding error given presence", "p"]
    return (
        table(found, [_judged(result, kinds, mark) for result in results], markdown=True),
        table(change, [_change(result, mark) for result in results[1:]], markdown=True),
    )


def _judged(result: MethodFigures, kinds: Sequence[str], mark: str) -> list[str]:
    present = int(result.tallies["binding_error"].of.sum())
    error = f"{_share(result, 'binding_error', wide=True)} of {present}{mark}" if present else _ABSENT
    wide = [_share(result, name, wide=True) for name in ("fully_right", "presence")]
    rest = [_share(result, name) + (mark if name in ERRORS else "") for name in kinds]
    return [result.name, *wide, error, *rest]


def _change(result: MethodFigures, mark: str) -> list[str]:
    *others, error, p = (cell for name in COMPARED for cell in _difference(result.against[name]))
    return [result.name, *others, error if error == _ABSENT else f"{error}{mark}", p]


def _nearness(result: MethodFigures) -> list[str]:
    decibels = result.value("psnr_db")
    values = [result.value(name) for name in ("ssim", "latent_deviation", "clip_distance")]
    rest = [_ABSENT if value is None else f"{value:.4f}" for value in values]
    time = f"x {result.time.median:.3f} ({result.time.least:.3f} to {result.time.most:.3f})"
    return [result.name, "equal" if decibels is None else f"{decibels:.1f} dB", *rest, time]


def _share(result: MethodFigures, name: str, *, wide: bool = False) -> str:
    value = result.value(name)
    if value is None:
        return _ABSENT
    between = result.intervals[name] if wide else None
    return f"{value:.1%}" if between is None else f"{value:.1%} ({100 * between[0]:.1f} to {100 * between[1]:.1f})"


def _difference(difference: Difference) -> list[str]:
    """Return a difference in percentage points with its interval, and its p-value."""
    value, between, p = difference
    if value is None:
        return [_ABSENT, _ABSENT]
    ends = "" if between is None else f" ({100 * between[0]:+.1f} to {100 * between[1]:+.1f})"
    return [f"{100 * value:+.1f}{ends}", f"{p:.4f}"]
