"""One sheet of pictures with captions: a heading over each column, a label beside each row, a line below."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

PAPER: Final = (250, 249, 246)
INK: Final = (32, 32, 36)
QUIET_INK: Final = (112, 112, 118)
EDGE: Final = (214, 212, 206)
LEAST_CELL: Final = 240  # pixels; smaller pictures are enlarged by a whole factor, or captions would not fit
_SYSTEM_FONTS: Final = ("NotoSans-Regular.ttf", "DejaVuSans.ttf", "Arial.ttf", "arial.ttf", "Helvetica.ttc")
_BESIDE_ASCII: Final = "·“”‘’–…"  # what Pillow's own font has of the rest


@dataclass(frozen=True)
class Heading:
    """What stands over a column: a name and, smaller, lines about it."""

    name: str
    lines: tuple[str, ...] = ()


def draw_sheet(
    title: str,
    headings: Sequence[Heading],
    labels: Sequence[str],
    pictures: Sequence[Sequence[Image.Image]],
    footer: str,
    captions: Sequence[Sequence[str]] = (),
) -> Image.Image:
    """Return a sheet of `pictures`, row by row and all of one size, one label a row and one heading a column.

    captions: one short line below each picture, row by row; without any there is no room for them either.
    """
    sheet = _Sheet(pictures[0][0].size, title, headings, labels, footer, bool(captions))
    for column, heading in enumerate(headings):
        sheet.write_heading(column, heading)
    for row, row_pictures in enumerate(pictures):
        sheet.write_label(row)
        for column, picture in enumerate(row_pictures):
            sheet.paste(row, column, picture, captions[row][column] if captions else "")
    return sheet.image


class _Sheet:
    """A sheet with its title and footer; all of its measures follow from the size of a picture on it."""

    def __init__(
        self,
        size: tuple[int, int],
        title: str,
        headings: Sequence[Heading],
        labels: Sequence[str],
        footer: str,
        captioned: bool,
    ) -> None:
        factor = max(1, -(-LEAST_CELL // min(size)))
        self._cell = size[0] * factor, size[1] * factor
        self._unit = unit = max(15, min(self._cell) // 17)  # height of a caption's letters, and of a gap
        self._small = int(0.85 * unit)
        self._margin = 2 * unit
        has_every_letter = all(letter.isascii() or letter in _BESIDE_ASCII for letter in "".join([title, *labels]))
        self._fonts = () if has_every_letter else _SYSTEM_FONTS  # to try before Pillow's own
        self._labels = [wrap(label, 7 * unit, self._font(unit)) for label in labels]
        lengths = [self._font(unit).getlength(line) for lines in self._labels for line in lines]
        self._left = self._margin + (int(max(lengths)) + 1 + unit if lengths else 0)
        width = self._left + len(headings) * (self._cell[0] + unit) - unit + self._margin
        lines = wrap(title, width - 2 * self._margin, self._font(int(1.5 * unit)))
        notes = wrap(footer, width - 2 * self._margin, self._font(self._small))
        heading_lines = max(len(heading.lines) for heading in headings)
        self._heading_top = self._margin + int((2 * len(lines) + 0.6) * unit)
        self._top = self._heading_top + int((1.6 + 1.25 * heading_lines + 0.5) * unit)
        self._pitch = self._cell[1] + unit + (int(1.2 * unit) if captioned else 0)
        bottom = self._top + len(labels) * self._pitch - unit
        height = bottom + int((1.2 + 1.4 * len(notes)) * unit) + self._margin
        self.image = Image.new("RGB", (width, height), PAPER)
        self._pen = ImageDraw.Draw(self.image)
        for i, line in enumerate(lines):
            self._write((self._margin, self._margin + 2 * i * unit), line, int(1.5 * unit), INK)
        for i, line in enumerate(notes):
            self._write((self._margin, bottom + int((1.2 + 1.4 * i) * unit)), line, self._small, QUIET_INK)

    def write_heading(self, column: int, heading: Heading) -> None:
        x, _ = self._corner(0, column)
        self._write((x, self._heading_top), heading.name, int(1.2 * self._unit), INK)
        for i, line in enumerate(heading.lines):
            y = self._heading_top + int((1.6 + 1.25 * i) * self._unit)
            self._write((x, y), line, self._small, QUIET_INK)

    def write_label(self, row: int) -> None:
        """Write a row's label at half the height of its pictures; what has no room there ends in an ellipsis."""
        lines, step = self._labels[row], int(1.4 * self._unit)
        room = self._cell[1] // step
        if len(lines) > room:
            lines = [*lines[: room - 1], "…"]
        top = self._corner(row, 0)[1] + (self._cell[1] - step * len(lines)) // 2
        for i, line in enumerate(lines):
            self._write((self._margin, top + i * step), line, self._unit, INK)

    def paste(self, row: int, column: int, picture: Image.Image, caption: str) -> None:
        x, y = self._corner(row, column)
        self._write((x, y + self._cell[1] + int(0.3 * self._unit)), caption, self._small, QUIET_INK)
        self.image.paste(picture.convert("RGB").resize(self._cell, Image.Resampling.NEAREST), (x, y))
        # around the picture and not on it: a light ground would run into the paper
        self._pen.rectangle((x - 1, y - 1, x + self._cell[0], y + self._cell[1]), outline=EDGE)

    def _corner(self, row: int, column: int) -> tuple[int, int]:
        return self._left + column * (self._cell[0] + self._unit), self._top + row * self._pitch

    def _write(self, corner: tuple[int, int], text: str, letters: int, ink: tuple[int, int, int]) -> None:
        self._pen.text(corner, text, font=self._font(letters), fill=ink)

    def _font(self, letters: int) -> Font:
        return _load_font(letters, self._fonts)


def wrap(text: str, width: int, font: Font) -> list[str]:
    """Return a text as lines at most `width` pixels wide in a font; no line for no text."""
    lines: list[str] = []
    for columns in range(len(text), 0, -1):
        lines = textwrap.wrap(text, columns)
        if all(font.getlength(line) <= width for line in lines):
            break
    return lines


@cache
def _load_font(letters: int, names: tuple[str, ...]) -> Font:
    for name in names:
        try:
            return ImageFont.truetype(name, letters)
        except OSError:
            continue
    return ImageFont.load_default(letters)
