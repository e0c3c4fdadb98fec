"""Ways to damage a picture [S, S, 3] (sRGB bytes), to learn how much of it the judge bears. Each takes its strength."""

import io
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Picture = NDArray[np.uint8]
Damage = Callable[[Picture, float, np.random.Generator], Picture]

_PERIOD: Final = 16  # pixels from one bend of a wobbling edge to the next


def blur(picture: Picture, sigma: float, rng: np.random.Generator) -> Picture:
    """Blur by a Gaussian of `sigma` pixels."""
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(sigma)))


def add_noise(picture: Picture, sigma: float, rng: np.random.Generator) -> Picture:
    """Add Gaussian noise of `sigma`, as a fraction of the range of a channel."""
    return np.clip(np.round(picture + rng.normal(0, 255 * sigma, picture.shape)), 0, 255).astype(np.uint8)


def compress(picture: Picture, quality: float, rng: np.random.Generator) -> Picture:
    """Store as JPEG of a quality from 1 to 95, and open that."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=round(quality))
    return np.asarray(Image.open(file))


def wobble(picture: Picture, pixels: float, rng: np.random.Generator) -> Picture:
    """Move every point by a smooth random displacement of `pixels` root mean square in each direction."""
    side = len(picture)
    at = []
    for grid in np.mgrid[:side, :side]:
        coarse = Image.fromarray(rng.normal(size=(side // _PERIOD + 1,) * 2).astype(np.float32))
        smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
        at.append(np.clip(grid + smooth * (pixels / smooth.std()), 0, side - 1.001))
    (y, fy), (x, fx) = ((p.astype(int), (p % 1)[..., None]) for p in at)
    top = picture[y, x] * (1 - fx) + picture[y, x + 1] * fx
    bottom = picture[y + 1, x] * (1 - fx) + picture[y + 1, x + 1] * fx
    return np.round(top * (1 - fy) + bottom * fy).astype(np.uint8)
