"""Which of the taught colours an object has, in Oklab (Ottosson 2020), where distance is close to seen difference."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from ...demo.scene import COLOURS
from .segmentation import UNSURE, Floats, Mask

LIGHTNESS_WEIGHT: Final = 0.5
"""A difference of lightness counts half, as in the acceptability rule CMC(2:1): a red in the shade is still a red."""
MOST_DISTANCE: Final = 0.12
"""Farther than this from every taught colour is another colour: two thirds of the least distance between two, 0.175."""
MOST_RATIO: Final = 2 / 3
"""Most that the distance to the nearest taught colour may be of that to the second nearest: the middle is unsure."""
LEAST_PURITY: Final = 0.8
"""Least share of an object's inside that has the object's colour; below it the object has more than one."""

_TO_CONES: Final = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    np.float32,
)
_TO_OKLAB: Final = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ],
    np.float32,
)
_WEIGHTS: Final = np.array([LIGHTNESS_WEIGHT, 1, 1], np.float32)


@dataclass(frozen=True)
class ColourFit:
    """How well the nearest taught colour describes an object."""

    nearest: str
    distance: float  # in Oklab with lightness at half weight; 0 is the colour itself
    ratio: float  # of `distance` to that of the second nearest colour, in [0, 1]
    purity: float  # share of the object's inside whose own nearest colour is `nearest`

    @property
    def colour(self) -> str:
        """The colour's name, or `UNSURE`: another colour, one between two, or more than one."""
        return self.nearest if self.pure and self.distance <= MOST_DISTANCE and self.ratio <= MOST_RATIO else UNSURE

    @property
    def pure(self) -> bool:
        """Whether one colour fills the object, whichever it is."""
        return self.purity >= LEAST_PURITY


def fit_colour(picture: Floats, inside: Mask) -> ColourFit:
    """Compare the pixels of a picture [H, W, 3] (sRGB in [0, 1]) that a mask [H, W] names with the taught colours."""
    pixels = picture[inside]
    whole = _distances(np.median(pixels, axis=0))
    first, second = np.argsort(whole, kind="stable")[:2]
    purity = np.mean(_distances(pixels).argmin(axis=-1) == first)
    return ColourFit(list(COLOURS)[first], float(whole[first]), float(whole[first] / whole[second]), float(purity))


def colour_masks(picture: Floats, mask: Mask) -> list[Mask]:
    """Split a mask [H, W] by the taught colour that is nearest to each pixel; colours without a pixel are left out."""
    nearest = np.full(mask.shape, -1)
    nearest[mask] = _distances(picture[mask]).argmin(axis=-1)
    return [nearest == colour for colour in np.unique(nearest[mask])]


def oklab(rgb: Floats) -> Floats:
    """Convert sRGB [..., 3] in [0, 1] to Oklab [..., 3]: lightness in [0, 1], green to red, blue to yellow."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4).astype(np.float32)
    return np.cbrt(linear @ _TO_CONES.T) @ _TO_OKLAB.T


_PALETTE: Final = oklab(np.array(list(COLOURS.values()), np.float32))


def _distances(rgb: Floats) -> Floats:
    """Return how far colours [..., 3] look from each of the taught ones: [..., len(COLOURS)]."""
    return np.sqrt(np.square((oklab(rgb)[..., None, :] - _PALETTE) * _WEIGHTS).sum(axis=-1))
