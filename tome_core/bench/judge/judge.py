"""Look at a picture of flat shapes on a light ground, and say what is there."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .colours import ColourFit, colour_masks, fit_colour
from .segmentation import UNSURE, Floats, Mask, contrast, core, find_objects, pieces, shrink
from .shapes import ShapeFit, fit_shape

LEAST_SIDE: Final = 64
"""Smallest picture judged, in pixels: below it the smallest shapes drawn are a few pixels wide."""


@dataclass(frozen=True)
class Found:
    """One object of a picture; the fits hold what its reading rests on."""

    colour_fit: ColourFit
    shape_fit: ShapeFit

    @property
    def colour(self) -> str:
        """A name of `COLOURS`, or `UNSURE`: another colour, one between two, or more than one."""
        return self.colour_fit.colour

    @property
    def shape(self) -> str:
        """A name of `SHAPES`, or `UNSURE`: none of them, or one of two that fit about equally."""
        return self.shape_fit.shape


def judge(picture: NDArray[np.uint8]) -> tuple[Found, ...]:
    """Return the objects of a picture [S, S, 3] (sRGB), from the top down; none for an empty ground.

    An object is what stands out from the light ground in one connected piece, but for specks and hairlines (inside
    below 0.4 % of the picture). Touching objects are separated by their colours where that makes at least one taught
    shape and the whole is none. Shapes turned by more than about 0.4 radians from how they are taught are "unsure".

    Raises ValueError for anything but a square uint8 RGB picture.
    """
    square = picture.ndim == 3 and picture.shape == (len(picture), len(picture), 3)
    if picture.dtype != np.uint8 or not square or len(picture) < LEAST_SIDE:
        found = f"{picture.dtype} {list(picture.shape)}"
        raise ValueError(f"picture must be uint8 [S, S, 3] with S >= {LEAST_SIDE}, got {found}")
    rgb = shrink(picture)
    contrasts = contrast(rgb)
    masks = find_objects(contrasts)
    return tuple(found for mask in masks for found in _read(rgb, contrasts, mask))


def _read(rgb: Floats, contrasts: Floats, mask: Mask) -> list[Found]:
    """Read one connected piece as one object, or as several of different colours that touch."""
    whole = _look(rgb, contrasts, mask)
    if whole.colour_fit.pure or whole.shape != UNSURE:
        return [whole]
    parts = [_look(rgb, contrasts, part) for colour in colour_masks(rgb, mask) for part in pieces(colour)]
    return parts if any(part.shape != UNSURE for part in parts) else [whole]


def _look(rgb: Floats, contrasts: Floats, mask: Mask) -> Found:
    inside = core(mask)
    return Found(fit_colour(rgb, inside), fit_shape(_cover(contrasts, mask, inside)))


def _cover(contrasts: Floats, mask: Mask, inside: Mask) -> Floats:
    """Return the share of each pixel that an object covers, [H, W]: 1 from three quarters of its own contrast on.

    Contrast is linear in cover because the renderer blends in sRGB. Below a quarter it is taken for noise. An object
    of two colours goes by the fainter one: the contrast that four fifths of its inside reach.
    """
    full = np.quantile(contrasts[inside], 0.2)
    return (np.clip((contrasts / full - 0.25) * 2, 0, 1) * mask).astype(np.float32)
