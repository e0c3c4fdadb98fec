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
    return _Sheet(pictures[0][0].size, title, headings, labels, bool(captions)).draw(pictures, captions, footer)


class _Sheet:
    """The measures of a sheet: all of them follow from the size of a picture on it."""

    def __init__(
        self, size: tuple[int, int], title: str, headings: Sequence[Heading], labels: Sequence[str], captioned: bool
    ) -> None:
        factor = max(1, -(-LEAST_CELL // min(size)))
        self.cell = (size[0] * factor, size[1] * factor)
        self.unit = max(15, min(self.cell) // 17)  # height of a caption's letters
        self.gap = self.unit
        self.margin = 2 * self.unit
        self.headings = headings
        self.fonts = _fonts_for("".join([title, *labels]))
        self.labels = [wrap(label, 7 * self.unit, self._font(self.unit)) for label in labels]
        lengths = [self._font(self.unit).getlength(line) for lines in self.labels for line in lines]
        self.label_width = int(max(lengths)) + 1 + self.gap if lengths else 0
        self.width = 2 * self.margin + self.label_width + len(headings) * (self.cell[0] + self.gap) - self.gap
        self.title = wrap(title, self.width - 2 * self.margin, self._font(int(1.5 * self.unit)))
        self.left = self.margin + self.label_width
        heading_lines = max(len(heading.lines) for heading in headings)
        self.heading_top = self.margin + int((2 * len(self.title) + 0.6) * self.unit)
        self.top = self.heading_top + int((1.6 + 1.25 * heading_lines + 0.5) * self.unit)
        self.pitch = self.cell[1] + self.gap + (int(1.2 * self.unit) if captioned else 0)
        self.bottom = self.top + len(labels) * self.pitch - self.gap

    def draw(
        self, pictures: Sequence[Sequence[Image.Image]], captions: Sequence[Sequence[str]], footer: str
    ) -> Image.Image:
        notes = wrap(footer, self.width - 2 * self.margin, self._font(self._small))
        height = self.bottom + int((1.2 + 1.4 * len(notes)) * self.unit) + self.margin
        sheet = Image.new("RGB", (self.width, height), PAPER)
        pen = ImageDraw.Draw(sheet)
        for i, line in enumerate(self.title):
            self._write(pen, (self.margin, self.margin + 2 * i * self.unit), line, int(1.5 * self.unit), INK)
        for column, heading in enumerate(self.headings):
            self._draw_heading(pen, self._x(column), heading)
        for row, (lines, row_pictures) in enumerate(zip(self.labels, pictures, strict=True)):
            self._draw_label(pen, self._y(row), lines)
            for column, picture in enumerate(row_pictures):
                self._place(sheet, pen, (self._x(column), self._y(row)), picture)
        for row, texts in enumerate(captions):
            for column, text in enumerate(texts):
                corner = (self._x(column), self._y(row) + self.cell[1] + int(0.3 * self.unit))
                self._write(pen, corner, text, self._small, QUIET_INK)
        for i, line in enumerate(notes):
            top = self.bottom + int((1.2 + 1.4 * i) * self.unit)
            self._write(pen, (self.margin, top), line, self._small, QUIET_INK)
        return sheet

    def _draw_heading(self, pen: ImageDraw.ImageDraw, x: int, heading: Heading) -> None:
        self._write(pen, (x, self.heading_top), heading.name, int(1.2 * self.unit), INK)
        for i, line in enumerate(heading.lines):
            y = self.heading_top + int((1.6 + 1.25 * i) * self.unit)
            self._write(pen, (x, y), line, self._small, QUIET_INK)

    def _draw_label(self, pen: ImageDraw.ImageDraw, y: int, lines: list[str]) -> None:
        """Write a row's label at half the height of its pictures; what has no room there ends in an ellipsis."""
        step = int(1.4 * self.unit)
        room = self.cell[1] // step
        if len(lines) > room:
            lines = [*lines[: room - 1], "…"]
        top = y + (self.cell[1] - step * len(lines)) // 2
        for i, line in enumerate(lines):
            self._write(pen, (self.margin, top + i * step), line, self.unit, INK)

    def _place(
        self, sheet: Image.Image, pen: ImageDraw.ImageDraw, corner: tuple[int, int], picture: Image.Image
    ) -> None:
        x, y = corner
        sheet.paste(picture.convert("RGB").resize(self.cell, Image.Resampling.NEAREST), corner)
        # around the picture and not on it: a light ground would run into the paper
        pen.rectangle((x - 1, y - 1, x + self.cell[0], y + self.cell[1]), outline=EDGE)

    @property
    def _small(self) -> int:
        return int(0.85 * self.unit)

    def _x(self, column: int) -> int:
        return self.left + column * (self.cell[0] + self.gap)

    def _y(self, row: int) -> int:
        return self.top + row * self.pitch

    def _write(
        self, pen: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, letters: int, ink: tuple[int, int, int]
    ) -> None:
        pen.text(corner, text, font=self._font(letters), fill=ink)

    def _font(self, letters: int) -> Font:
        return _load_font(letters, self.fonts)


def wrap(text: str, width: int, font: Font) -> list[str]:
    """Return a text as lines at most `width` pixels wide in a font; no line for no text."""
    lines: list[str] = []
    for columns in range(len(text), 0, -1):
        lines = textwrap.wrap(text, columns)
        if all(font.getlength(line) <= width for line in lines):
            break
    return lines


def _fonts_for(text: str) -> tuple[str, ...]:
    """Return the fonts to try before Pillow's own: none, unless the text has letters that it lacks."""
    has_every_letter = all(letter.isascii() or letter in _BESIDE_ASCII for letter in text)
    return () if has_every_letter else _SYSTEM_FONTS


@cache
def _load_font(letters: int, names: tuple[str, ...]) -> Font:
    for name in names:
        try:
            return ImageFont.truetype(name, letters)
        except OSError:
            continue
    return ImageFont.load_default(letters)
