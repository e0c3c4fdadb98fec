"""What a scene of the demo model can hold: colours, and shapes as signed distances."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Kind = tuple[str, str]  # (colour, shape)

COLOURS: Final[dict[str, tuple[float, float, float]]] = {
    "red": (0.86, 0.12, 0.14),
    "yellow": (0.96, 0.80, 0.10),
    "green": (0.13, 0.62, 0.25),
    "blue": (0.13, 0.33, 0.85),
    "purple": (0.55, 0.18, 0.70),
    "black": (0.08, 0.08, 0.09),
}
"""Name to sRGB, each channel in [0, 1]."""


def _circle(u: Floats, v: Floats) -> Floats:
    return np.hypot(u, v) - np.float32(0.86)


def _square(u: Floats, v: Floats) -> Floats:
    return np.maximum(abs(u), abs(v)) - np.float32(0.75)


def _triangle(u: Floats, v: Floats) -> Floats:
    half = np.float32(np.sqrt(3) / 2)
    return np.maximum(half * abs(u) - v / 2, v) - np.float32(0.5)


def _cross(u: Floats, v: Floats) -> Floats:
    long, short = np.maximum(abs(u), abs(v)), np.minimum(abs(u), abs(v))
    return np.maximum(long - np.float32(0.92), short - np.float32(0.27))


def _star(u: Floats, v: Floats) -> Floats:
    """Five points: fold the plane into half a point, then the signed distance to the line of its edge."""
    sector = np.float32(np.pi / 5)
    turn = np.abs(np.mod(np.arctan2(u, -v) + sector, 2 * sector) - sector)
    distance = np.hypot(u, v)
    a, b = distance * np.cos(turn), distance * np.sin(turn)  # tip at (1, 0)
    inner = 0.46 * np.array([np.cos(sector), np.sin(sector)])
    edge = inner - np.array([1.0, 0.0])
    normal = np.array([edge[1], -edge[0]]) / np.hypot(*edge)
    return np.asarray((a - 1.0) * normal[0] + b * normal[1], dtype=np.float32)


SHAPES: Final[dict[str, Callable[[Floats, Floats], Floats]]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
    "star": _star,
}
"""Name to signed distance, negative inside, of points (u right, v down) in units of the thing's radius."""
