"""The layout of a sheet."""

import numpy as np
import pytest
from PIL import Image, ImageFont

from tome_core.bench.sheet import PAPER, Heading, draw_sheet, wrap

COLOURS = [[(255, 0, 0), (0, 255, 0), (0, 0, 255)], [(255, 255, 0), (0, 255, 255), (255, 0, 255)]]
LABELS = ["a red square", "a blue circle and a yellow cross beside a very small green star"]


@pytest.mark.parametrize(
    ("size", "shown"), [((64, 64), (256, 256)), ((320, 240), (320, 240)), ((512, 768), (512, 768))]
)
def test_every_picture_is_whole_at_its_row_and_column(size, shown):
    pictures = [[Image.new("RGB", size, colour) for colour in row] for row in COLOURS]
    headings = [Heading("untouched", ("1024 tokens", "1.20 s a picture"))] * 3
    sheet = np.array(draw_sheet("A title " * 20, headings, LABELS, pictures, "a footer " * 40))
    corners = np.zeros((2, 3, 2), dtype=int)
    for row, colours in enumerate(COLOURS):
        for column, colour in enumerate(colours):
            y, x = np.nonzero((sheet == colour).all(axis=2))
            assert len(x) == shown[0] * shown[1] == (np.ptp(x) + 1) * (np.ptp(y) + 1)
            corners[row, column] = x.min(), y.min()
    assert (np.diff(corners[..., 0], axis=1) > shown[0]).all()
    assert (np.diff(corners[..., 1], axis=0) > shown[1]).all()


def test_a_label_stays_beside_its_own_row():
    pictures = [[Image.new("RGB", (256, 256), row[0])] for row in COLOURS]
    sheet = np.array(draw_sheet("", [Heading("untouched")], ["very long " * 80, "short"], pictures, ""))
    pictured, x = np.nonzero((sheet == COLOURS[0][0]).all(axis=2))
    rows = np.nonzero((sheet[:, : x.min() - 1] != PAPER).any(axis=(1, 2)))[0]
    beside = rows[rows < pictured.max() + 15]
    assert pictured.min() <= beside.min() < beside.max() <= pictured.max()
    assert beside.max() - beside.min() > 200


def test_nothing_is_written_on_the_margins():
    pictures = [[Image.new("RGB", (256, 256), colour) for colour in row] for row in COLOURS]
    headings = [Heading("ratio 0.75", ("level 1: 256 of 1024 tokens", "12.34 CPU s a picture"))] * 3
    sheet = np.array(draw_sheet("A title " * 20, headings, LABELS, pictures, "a footer " * 40))
    for edge in (sheet[:20], sheet[-20:], sheet[:, :20], sheet[:, -20:]):
        assert (edge == PAPER).all()


def test_lines_are_no_wider_than_asked_and_keep_every_word():
    text = "a blue circle and a yellow cross beside a very small green star"
    font = ImageFont.load_default(15)
    lines = wrap(text, 90, font)
    assert " ".join(lines) == text
    assert all(font.getlength(line) <= 90 for line in lines)
    assert wrap("", 90, font) == []


def test_captions_stand_below_their_own_pictures():
    pictures = [[Image.new("RGB", (256, 256), colour) for colour in row] for row in COLOURS]
    headings, captions = [Heading("ours")] * 3, [["right", "", ""], ["", "", "leaked"]]
    plain, captioned = (np.array(draw_sheet("", headings, LABELS, pictures, "", *given)) for given in ((), (captions,)))
    assert captioned.shape[0] > plain.shape[0]
    for row, colours in enumerate(COLOURS):
        for column, colour in enumerate(colours):
            y, x = np.nonzero((captioned == colour).all(axis=2))
            below = captioned[y.max() + 3 : y.max() + 18, x.min() : x.max()]
            assert (below != PAPER).any() == bool(captions[row][column])
