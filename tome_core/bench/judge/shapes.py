"""Which of the taught shapes a silhouette has, by its overlap with the renderer's own over scale, place and angle."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Final

import numpy as np

from ...demo.scene import SHAPES
from .segmentation import UNSURE, Floats

MOST_STRAY: Final = 0.04
"""Most that the silhouette's edge may stray from the shape's on average, as a fraction of the object's `size`.

It keeps out the diamond (0.046 from a circle), the oblong of 1.3 to 1 (0.050 from a square) and the ring (0.060 from a
circle). Overlap itself has no such common limit, since a star has more edge for its area than a circle.
"""
MOST_RATIO: Final = 0.72
"""Most that the best shape's overlap may lack of 1, as a fraction of what the second best's lacks.

This and `MOST_STRAY` were set by 200 pictures of earlier weights that a person labelled blind
(benchmarks/labels/demo-2026-11-21.json): judge and person agree on 189 of them, with 2/3 on 185, with 2/3 and a stray
of 0.035 on 181; at 0.8 they agree on 192, but then one random polygon in twenty passes for a shape.
"""
MOST_CUT: Final = 0.25
"""Most of the picture's border, one side's worth, that an object may cover; more of it and nobody sees its shape."""

GRID: Final = 32  # cells a side on which silhouettes and shapes are compared
REACH: Final = 1.1  # half the grid's width, in sizes; the tip of a triangle lies at 0.88
ANGLES: Final = np.linspace(-0.36, 0.36, 17)  # radians; scenes turn things by at most 0.2
SCALES: Final = (0.95, 1.0, 1.05)  # about equal area
SHIFTS: Final = ((0.0, 0.0), (0.04, 0.0), (-0.04, 0.0), (0.0, 0.04), (0.0, -0.04))  # about equal centres, in sizes


@dataclass(frozen=True)
class ShapeFit:
    """How well the best-fitting taught shape describes a silhouette."""

    nearest: str
    overlap: float  # intersection over union with the best template of `nearest`, in [0, 1]
    ratio: float  # of what the best shape's overlap lacks of 1 to what the second best's lacks, in [0, 1]
    cut: float  # share of the picture's border that the silhouette covers
    x: float  # of the centre of mass, from the left, as a fraction of the side
    y: float  # from the top
    size: float  # square root of the area, as a fraction of the side

    @property
    def stray(self) -> float:
        """Mean distance between the edges of silhouette and shape, as a fraction of `size`."""
        return (1 - self.overlap) / _measure(self.nearest)[1]

    @property
    def shape(self) -> str:
        """The shape's name, or `UNSURE`: no taught shape fits, two fit about equally well, or the frame hides it."""
        sure = self.stray <= MOST_STRAY and self.ratio <= MOST_RATIO and self.cut <= MOST_CUT
        return self.nearest if sure else UNSURE


def fit_shape(cover: Floats) -> ShapeFit:
    """Compare a silhouette, given as each pixel's covered share [S, S], with the taught shapes."""
    side = len(cover)
    area = float(cover.sum())
    pixels = np.arange(side) + 0.5
    x, y = float(cover.sum(axis=0) @ pixels / area), float(cover.sum(axis=1) @ pixels / area)
    size = area**0.5
    grid = _averages(side, y, REACH * size) @ cover @ _averages(side, x, REACH * size).T
    overlaps = _overlaps(grid.ravel(), area * (GRID / (2 * REACH * size)) ** 2)
    nearest, second = sorted(overlaps, key=lambda shape: -overlaps[shape])[:2]
    ratio = (1 - overlaps[nearest]) / (1 - overlaps[second])
    cut = float(np.mean([cover[0], cover[-1], cover[:, 0], cover[:, -1]]))
    return ShapeFit(nearest, overlaps[nearest], ratio, cut, x / side, y / side, size / side)


def _overlaps(cover: Floats, area: float) -> dict[str, float]:
    """Return each shape's best overlap with a silhouette [GRID * GRID] of `area` cells, some beyond the grid."""
    shapes, covers, areas = _templates()
    shared = np.minimum(covers, cover).sum(axis=1)
    best = dict.fromkeys(SHAPES, 0.0)
    for shape, overlap in zip(shapes, (shared / (areas + area - shared)).tolist(), strict=True):
        best[shape] = max(best[shape], overlap)
    return best


def _averages(pixels: int, centre: float, reach: float) -> Floats:
    """Return the matrix [GRID, pixels] that averages a row of pixels over the cells of a grid around a centre."""
    edges = np.linspace(centre - reach, centre + reach, GRID + 1)[:, None]
    starts = np.arange(pixels)
    shared = np.minimum(edges[1:], starts + 1) - np.maximum(edges[:-1], starts)
    return _float32(np.clip(shared, 0, None) * (GRID / (2 * reach)))


@lru_cache(maxsize=1)
def _templates() -> tuple[list[str], Floats, Floats]:
    """Return the shape of each of T templates, what it covers, [T, GRID * GRID], and its area in cells, [T]."""
    poses = [
        (shape, float(angle), scale, shift)
        for shape in SHAPES
        for angle, scale, shift in product(ANGLES if shape != "circle" else (0.0,), SCALES, SHIFTS)
    ]
    cover = np.stack([_draw(*pose).ravel() for pose in poses])
    return [pose[0] for pose in poses], cover, cover.sum(axis=1)


def _draw(shape: str, angle: float, scale: float, shift: tuple[float, float]) -> Floats:
    """Draw a shape of size `scale` on the grid: the share of each cell that it covers, [GRID, GRID]."""
    cell = 2 * REACH / GRID
    centres = (np.arange(GRID) + 0.5) * cell - REACH
    u, v = centres[None, :] - shift[0], centres[:, None] - shift[1]
    cos, sin = np.cos(angle), np.sin(angle)
    radius = scale / _measure(shape)[0] ** 0.5
    distance = SHAPES[shape](_float32((cos * u + sin * v) / radius), _float32((cos * v - sin * u) / radius)) * radius
    return _float32(np.clip(0.5 - distance / cell, 0, 1))


@lru_cache(maxsize=len(SHAPES))
def _measure(shape: str) -> tuple[float, float]:
    """Return a shape's area in squared radii, and its perimeter in units of the area's square root."""
    steps, half, band = 500, 1.1, 0.02
    points = _float32((np.arange(steps) + 0.5) / steps * 2 * half - half)
    distance = SHAPES[shape](*np.meshgrid(points, points))
    area = float(np.mean(distance < 0)) * (2 * half) ** 2
    perimeter = float(np.mean(np.abs(distance) < band)) * (2 * half) ** 2 / (2 * band)
    return area, perimeter / area**0.5


def _float32(values: object) -> Floats:
    return np.asarray(values, dtype=np.float32)
