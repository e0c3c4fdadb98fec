"""Where a picture's objects are: what differs from the light ground, connected piece by piece, in plain NumPy."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

WORKING_SIDE: Final = 128
"""Every picture is judged at this side: fine enough for the smallest shapes drawn, and it averages noise away."""
LEAST_GROUND: Final = 0.7
"""Least channel of a pixel of the ground; the renderer's grounds are never below 0.83, its colours all fall below."""
LEAST_GROUND_SHARE: Final = 0.05
"""A picture with fewer light pixels has no light ground to go by, and is judged against white."""
LEAST_CONTRAST: Final = 0.3
"""RGB distance from the ground that makes a pixel part of something: below half that of any taught colour (0.7)."""
LEAST_CORE: Final = 0.004
"""Least share of the picture that an object's inside must fill: a dot of a twelfth of the side, under a third as
wide as the smallest thing drawn, is the least that counts."""


def shrink(picture: NDArray[np.uint8]) -> Floats:
    """Return a picture [S, S, 3] at the working side, in [0, 1]; larger ones are averaged over areas."""
    if len(picture) != WORKING_SIDE:
        filter_ = Image.Resampling.BOX if len(picture) > WORKING_SIDE else Image.Resampling.BILINEAR
        picture = np.asarray(Image.fromarray(picture).resize((WORKING_SIDE, WORKING_SIDE), filter_))
    return (picture / 255).astype(np.float32)


def contrast(picture: Floats) -> Floats:
    """Return each pixel's RGB distance [H, W] from the ground, whose colour is the median of the light pixels."""
    light = picture[picture.min(axis=2) >= LEAST_GROUND]
    has_ground = len(light) >= LEAST_GROUND_SHARE * picture.shape[0] * picture.shape[1]
    ground = np.median(light, axis=0) if has_ground else np.ones(3, np.float32)
    return np.linalg.norm(picture - ground, axis=2).astype(np.float32)


def find_objects(contrasts: Floats) -> list[Mask]:
    """Return the mask [H, W] of each connected object, from the top down; specks and hairlines are left out."""
    return pieces(contrasts >= LEAST_CONTRAST)


def pieces(mask: Mask) -> list[Mask]:
    """Split a mask [H, W] into its 4-connected pieces whose inside is large enough to count."""
    labels = label(mask)
    inside = np.bincount(labels[erode(mask)], minlength=1)
    inside[0] = 0
    return [labels == number for number in np.flatnonzero(inside >= LEAST_CORE * mask.size)]


def core(mask: Mask) -> Mask:
    """Return the part of a mask that is free of blended edge pixels, or the best that a thin one offers."""
    once = erode(mask)
    twice = erode(once)
    return twice if twice.sum() >= LEAST_CORE * mask.size else once


def erode(mask: Mask) -> Mask:
    """Take off every pixel with a neighbour (of 4) outside the mask or the picture."""
    padded = np.pad(mask, 1)
    return mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]


def label(mask: Mask) -> NDArray[np.int64]:
    """Number the 4-connected components of a mask [H, W] from 1 on, in the order in which rows meet them; 0 outside."""
    height, width = mask.shape
    padded = np.pad(mask, ((0, 0), (1, 1))).ravel().astype(np.int8)  # a gap between rows, so no run crosses
    steps = np.diff(padded)
    starts, ends = np.flatnonzero(steps == 1) + 1, np.flatnonzero(steps == -1) + 1
    roots = _join_runs(starts, ends, width + 2)
    numbers = np.unique(roots, return_inverse=True)[1] + 1
    labels = np.zeros(height * (width + 2), np.int64)
    labels[padded == 1] = np.repeat(numbers, ends - starts)
    return labels.reshape(height, width + 2)[:, 1:-1]


def _join_runs(starts: NDArray[np.int64], ends: NDArray[np.int64], row: int) -> NDArray[np.int64]:
    """Return for each run of pixels the first run of its component; `row` is how far the next row lies."""
    first = np.searchsorted(ends, starts + row, side="right")
    after = np.searchsorted(starts, ends + row, side="left")
    parents = list(range(len(starts)))

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = parents[parents[run]]
            run = parents[run]
        return run

    for run, (low, high) in enumerate(zip(first.tolist(), after.tolist(), strict=True)):
        for below in range(low, high):
            a, b = root(run), root(below)
            parents[max(a, b)] = min(a, b)
    return np.array([root(run) for run in range(len(starts))], dtype=np.int64)
