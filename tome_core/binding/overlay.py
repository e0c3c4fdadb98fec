"""A map laid over its picture, to be looked at."""

from typing import Final

import numpy as np
from PIL import Image
from torch import Tensor

_STOPS: Final = np.array([[20, 20, 60], [150, 30, 110], [245, 130, 50], [255, 240, 170]], dtype=np.float32)
"""Colours from least to most, dark to light, so that they also read in grey."""


def overlay(picture: Image.Image, weights: Tensor, opacity: float = 0.65) -> Image.Image:
    """Return a picture in grey under the colours of a map, of the picture's size.

    Args:
        picture: any mode.
        weights: [height, width], not negative; its least value has the darkest colour and its greatest the lightest.
        opacity: of the colours, 0 to 1.

    Raises:
        ValueError: the map is no plane of numbers from 0 up, or the opacity is out of its bounds.
    """
    if weights.dim() != 2 or not bool((weights >= 0).all()):  # NaN compares false
        raise ValueError(f"weights must be [height, width] of numbers from 0 up, got {list(weights.shape)}")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be a number from 0 to 1, got {opacity!r}")
    values = weights.float().cpu().numpy()
    values = (values - values.min()) / max(float(values.max() - values.min()), 1e-12)
    plane = Image.fromarray(values).resize(picture.size, Image.Resampling.BICUBIC)
    colours = _colours(np.clip(np.asarray(plane), 0, 1))
    grey = np.asarray(picture.convert("L").convert("RGB"), dtype=np.float32)
    return Image.fromarray((grey * (1 - opacity) + colours * opacity).round().astype(np.uint8))


def _colours(values: np.ndarray) -> np.ndarray:
    """Return [height, width, 3] of 0 to 255 for values of 0 to 1."""
    places = values * (len(_STOPS) - 1)
    return np.stack([np.interp(places, np.arange(len(_STOPS)), _STOPS[:, i]) for i in range(3)], axis=-1)
