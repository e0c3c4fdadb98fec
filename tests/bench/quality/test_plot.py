"""The plot: its panels are the figures that there are, and a bed that is not fair is told on it."""

import io

import pytest
from matplotlib.figure import Figure
from PIL import Image

from tome_core.bench.clock import Spread
from tome_core.bench.judge import Score
from tome_core.bench.quality.figures import Fidelity, MethodFigures, Readings, method_figures
from tome_core.bench.quality.gate import Gate
from tome_core.bench.quality.plot import plot

SCORES = [Score(("right", "right"), ()), Score(("leaked", "right"), ()), Score(("right", "missing"), ())]
NEAR = [Fidelity(30.0, 0.9, 0.1, 0.01)] * 12


@pytest.fixture
def figure(monkeypatch) -> list[Figure]:
    """The figure that was drawn last."""
    drawn, save = [], Figure.savefig

    def keep(self, *given, **named):
        drawn[:] = [self]
        save(self, *given, **named)

    monkeypatch.setattr(Figure, "savefig", keep)
    return drawn


def results(new_cases, scores: list[Score]) -> list[MethodFigures]:
    untouched, merged = Readings(scores, []), Readings(scores, NEAR)
    return [
        method_figures("untouched", "baseline", new_cases(12), untouched, untouched, Spread(1, 1, 1)),
        method_figures("ours", "method", new_cases(12), merged, untouched, Spread(0.9, 0.8, 1.0)),
    ]


def titles(figure: list[Figure]) -> list[str]:
    return [axis.get_title() for axis in figure[0].axes if axis.get_visible()]


def test_every_figure_has_a_panel_and_every_method_a_line(new_cases, figure):
    picture = Image.open(io.BytesIO(plot(results(new_cases, SCORES * 4), None, "a title")))
    assert picture.format == "PNG" and picture.width > picture.height
    assert len(titles(figure)) == 8
    assert [label.get_text() for label in figure[0].axes[0].get_yticklabels()] == ["untouched", "ours"]
    assert figure[0].get_suptitle() == "a title"


def test_figures_that_nobody_has_are_left_out(new_cases, figure):
    plot(results(new_cases, []), None, "")
    assert titles(figure) == ["time of a picture", "PSNR, dB", "SSIM", "latent deviation", "CLIP distance"]
    plot(results(new_cases, SCORES[2:] * 12), None, "")
    assert "binding error given presence, %" not in titles(figure)


def test_shares_begin_at_nought_and_a_point_stands_where_its_figure_is(new_cases, figure):
    plot(results(new_cases, SCORES * 4), None, "")
    right, near = figure[0].axes[0], figure[0].axes[4]
    assert right.get_xlim()[0] == 0
    points = [line.get_xdata()[0] for line in right.lines if line.get_marker() == "o"]
    assert points == pytest.approx([100 / 3, 100 / 3])
    assert [line.get_ydata()[0] for line in near.lines if line.get_marker() == "o"] == [1]


def test_a_bed_that_is_not_fair_is_told(new_cases, figure):
    plot(results(new_cases, SCORES * 4), Gate(()), "")
    assert "No fair bed for merging" in figure[0].get_supxlabel()
    plot(results(new_cases, SCORES * 4), None, "")
    assert "fair bed" not in figure[0].get_supxlabel()
