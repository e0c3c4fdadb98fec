"""The figures as one picture: a panel a figure, a line a method, its interval around it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

from .figures import MethodFigures
from .gate import Gate

PAPER, INK, QUIET_INK, EDGE = "#faf9f6", "#202024", "#707076", "#d6d4ce"
ROLES: Final = {"baseline": QUIET_INK, "control": "#b08968", "method": "#2a6f97"}


@dataclass(frozen=True)
class _Panel:
    title: str
    figure: str
    better: str
    is_share: bool = False


_PANELS: Final = (
    _Panel("fully right, %", "fully_right", "higher is better", is_share=True),
    _Panel("all shapes present, %", "presence", "higher is better", is_share=True),
    _Panel("binding error given presence, %", "binding_error", "lower is better", is_share=True),
    _Panel("time of a picture", "time", "lower is faster"),
    _Panel("PSNR, dB", "psnr_db", "higher is closer"),
    _Panel("SSIM", "ssim", "higher is closer"),
    _Panel("latent deviation", "latent_deviation", "lower is closer"),
    _Panel("CLIP distance", "clip_distance", "lower is closer"),
)
_COLUMNS: Final = 4


def can_plot() -> bool:
    """Return whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def plot(results: Sequence[MethodFigures], gate: Gate | None, title: str) -> bytes:
    """Return the plot as PNG. Panels of figures that no method has are left out. Needs matplotlib."""
    from matplotlib.figure import Figure

    panels = [panel for panel in _PANELS if any(_point(result, panel.figure) for result in results)]
    columns = len(panels) if len(panels) <= _COLUMNS + 1 else _COLUMNS
    rows = -(-len(panels) // columns)
    height = 1.3 + rows * (0.8 + 0.32 * len(results))
    figure = Figure(figsize=(1.6 + 2.5 * columns, height), facecolor=PAPER, dpi=150, layout="constrained")
    engine: Any = figure.get_layout_engine()
    engine.set(w_pad=0.12, h_pad=0.12)  # inches
    axes: Any = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        _draw(axis, results, panel)
    axes[0][0].set_yticks(range(len(results)), [result.name for result in results])
    axes[0][0].set_ylim(len(results) - 0.5, -0.5)
    figure.suptitle(title, x=0.012, ha="left", color=INK, fontsize=11)
    figure.supxlabel("\n".join(_notes(gate)), x=0.012, ha="left", color=QUIET_INK, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=PAPER)
    return buffer.getvalue()


def _notes(gate: Gate | None) -> list[str]:
    about = "Bars: 95 % bootstrap intervals by prompt; for time, in untouched pictures, the ends of its rounds."
    return [about] if gate is None else [about, f"{gate.sentence}."]


def _draw(axis: Any, results: Sequence[MethodFigures], panel: _Panel) -> None:
    scale = 100 if panel.is_share else 1
    for row, result in enumerate(results):
        point = _point(result, panel.figure)
        if point is None:
            continue
        value, low, high = (scale * x for x in point)
        if result.role == "baseline":
            axis.axvline(value, color=EDGE, linewidth=1.5, zorder=0)
        axis.plot([low, high], [row, row], color=ROLES[result.role], linewidth=2.5, alpha=0.45)
        axis.plot(value, row, "o", color=ROLES[result.role], markersize=6, clip_on=False, zorder=3)
    axis.margins(x=0.12)
    if panel.is_share:
        axis.set_xlim(0, min(100, max(10, axis.get_xlim()[1])))
    axis.locator_params(axis="x", nbins=5)
    axis.set_title(panel.title, fontsize=9, color=INK)
    axis.set_xlabel(panel.better, fontsize=8, color=QUIET_INK)
    axis.set_facecolor(PAPER)
    axis.tick_params(colors=INK, labelsize=8, length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_color(EDGE)


def _point(result: MethodFigures, figure: str) -> tuple[float, float, float] | None:
    """Return a figure and the ends of its bar, or None where there is no such figure."""
    if figure == "time":
        return result.time.median, result.time.least, result.time.most
    value = result.value(figure)
    return None if value is None else (value, *(result.intervals[figure] or (value, value)))
