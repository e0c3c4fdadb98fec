"""Where a picture's objects are: what differs from the light ground, connected piece by piece."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

UNSURE: Final = "unsure"
"""Stands for a colour or a shape of which the judge does not know which of the taught ones it is, or whether any."""
WORKING_SIDE: Final = 128
"""Every picture is judged at this side: fine enough for the smallest shapes drawn, and it averages noise away."""
LEAST_GROUND: Final = 0.7
"""Least channel of a pixel of the ground; the renderer's grounds are never below 0.83, its colours all fall below."""
LEAST_GROUND_SHARE: Final = 0.05
"""A picture with fewer light pixels has no light ground to go by, and is judged against white."""
LEAST_CONTRAST: Final = 0.3
"""RGB distance from the ground that makes a pixel part of something: below half that of any taught colour (0.7)."""
LEAST_CORE: Final = 0.004
"""Least share of the picture that an object's inside must fill, that of a dot of a twelfth of the side."""


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
    """Split a mask [H, W] into its 4-connected pieces whose inside is large enough to count, from the top down."""
    labels, _ = ndimage.label(mask)  # type: ignore[misc]  # its stub does not tell the pair from the count
    inside = np.bincount(labels[ndimage.binary_erosion(mask)], minlength=1)
    inside[0] = 0
    return [labels == number for number in np.flatnonzero(inside >= LEAST_CORE * mask.size)]


def core(mask: Mask) -> Mask:
    """Return the part of a mask that is free of blended edge pixels, or the best that a thin one offers."""
    once = ndimage.binary_erosion(mask)
    twice = ndimage.binary_erosion(once)
    return twice if twice.sum() >= LEAST_CORE * mask.size else once
