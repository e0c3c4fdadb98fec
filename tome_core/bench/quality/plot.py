"""The figures as one picture: a panel a figure, a line a method, its interval around it."""

import io
from collections.abc import Sequence
from typing import Any, Final

from .figures import MethodFigures
from .gate import Gate

PAPER, INK, QUIET_INK, EDGE = "#faf9f6", "#202024", "#707076", "#d6d4ce"
ROLES: Final = {"baseline": QUIET_INK, "control": "#b08968", "method": "#2a6f97"}
_SHARES: Final = ("fully_right", "presence", "binding_error")
_PANELS: Final = {
    "fully_right": ("fully right, %", "higher is better"),
    "presence": ("all shapes present, %", "higher is better"),
    "binding_error": ("binding error given presence, %", "lower is better"),
    "time": ("time of a picture", "lower is faster"),
    "psnr_db": ("PSNR, dB", "higher is closer"),
    "ssim": ("SSIM", "higher is closer"),
    "latent_deviation": ("latent deviation", "lower is closer"),
    "clip_distance": ("CLIP distance", "lower is closer"),
}
_COLUMNS: Final = 4


def plot(results: Sequence[MethodFigures], gate: Gate | None, title: str) -> bytes:
    """Return the plot as PNG. Panels of figures that no method has are left out. Needs matplotlib."""
    from matplotlib.figure import Figure

    panels = [name for name in _PANELS if any(_point(result, name) for result in results)]
    columns = len(panels) if len(panels) <= _COLUMNS + 1 else _COLUMNS
    rows = -(-len(panels) // columns)
    height = 1.3 + rows * (0.8 + 0.32 * len(results))
    figure = Figure(figsize=(1.6 + 2.5 * columns, height), facecolor=PAPER, dpi=150, layout="constrained")
    engine: Any = figure.get_layout_engine()
    engine.set(w_pad=0.12, h_pad=0.12)  # inches
    axes: Any = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, panels, strict=False):
        _draw(axis, results, name)
    axes[0][0].set_yticks(range(len(results)), [result.name for result in results])
    axes[0][0].set_ylim(len(results) - 0.5, -0.5)
    notes = ["Bars: 95 % bootstrap intervals by prompt; for time, in untouched pictures, the ends of its rounds."]
    notes += [] if gate is None else [f"{gate.sentence}."]
    figure.suptitle(title, x=0.012, ha="left", color=INK, fontsize=11)
    figure.supxlabel("\n".join(notes), x=0.012, ha="left", color=QUIET_INK, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=PAPER)
    return buffer.getvalue()


def _draw(axis: Any, results: Sequence[MethodFigures], name: str) -> None:
    title, better = _PANELS[name]
    for row, result in enumerate(results):
        point = _point(result, name)
        if point is None:
            continue
        value, low, high = (100 * x if name in _SHARES else x for x in point)
        if result.role == "baseline":
            axis.axvline(value, color=EDGE, linewidth=1.5, zorder=0)
        axis.plot([low, high], [row, row], color=ROLES[result.role], linewidth=2.5, alpha=0.45)
        axis.plot(value, row, "o", color=ROLES[result.role], markersize=6, clip_on=False, zorder=3)
    axis.margins(x=0.12)
    if name in _SHARES:
        axis.set_xlim(0, min(100, max(10, axis.get_xlim()[1])))
    axis.locator_params(axis="x", nbins=5)
    axis.set_title(title, fontsize=9, color=INK)
    axis.set_xlabel(better, fontsize=8, color=QUIET_INK)
    axis.set_facecolor(PAPER)
    axis.tick_params(colors=INK, labelsize=8, length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_color(EDGE)


def _point(result: MethodFigures, name: str) -> tuple[float, float, float] | None:
    """Return a figure and the ends of its bar, or None where there is no such figure."""
    if name == "time":
        return result.time
    value = result.value(name)
    return None if value is None else (value, *(result.intervals[name] or (value, value)))
