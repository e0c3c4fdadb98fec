"""Maps to look at and to use: laid over their picture, in sheets, and as masks."""

from typing import Any, Final

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from .maps import Grid
from .sums import PhraseMaps

_STOPS: Final = np.array([[20, 20, 60], [150, 30, 110], [245, 130, 50], [255, 240, 170]], dtype=np.float32)
"""Colours from least to most, dark to light, so that they also read in grey."""

_PREVIEW_SIDE: Final = 192  # pixels of a map's longer side
_INK: Final = (235, 235, 235)
_PAPER: Final = (20, 20, 24)


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
    positions = np.clip(np.asarray(plane), 0, 1) * (len(_STOPS) - 1)
    colours = np.stack([np.interp(positions, np.arange(len(_STOPS)), _STOPS[:, i]) for i in range(3)], axis=-1)
    grey = np.asarray(picture.convert("L").convert("RGB"), dtype=np.float32)
    return Image.fromarray((grey * (1 - opacity) + colours * opacity).round().astype(np.uint8))


def overlay_sheet(picture: Image.Image, phrases: PhraseMaps, image: int = 0, opacity: float = 0.65) -> Image.Image:
    """Return a picture alone and under the map of each phrase of one image, with names.

    Args:
        picture: any mode.
        phrases: the maps.
        image: the number of the image whose maps they are.
        opacity: of the maps' colours, 0 to 1.
    """
    plain = picture.convert("RGB")
    cells = [plain, *(overlay(plain, weights, opacity) for weights in phrases.maps[image])]
    return _sheet(cells, ["picture", *phrases.labels])


def overlay_sheets(images: Tensor, phrases: PhraseMaps, opacity: float = 0.65) -> Tensor:
    """Return [B, sheet height, sheet width, 3], 0 to 1: each picture, and it under the map of each phrase, with names.

    Args:
        images: [B, height, width, 3], 0 to 1. Picture i is shown with the maps of image i, over again where there are
            fewer.
        phrases: the maps.
        opacity: of the maps' colours, 0 to 1.
    """
    sheets = []
    for number, image in enumerate(images):
        picture = Image.fromarray((image.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())
        sheet = overlay_sheet(picture, phrases, number % phrases.maps.shape[0], opacity)
        sheets.append(torch.from_numpy(np.asarray(sheet).copy()))
    return torch.stack(sheets).float() / 255


def preview_sheet(phrases: PhraseMaps) -> Image.Image:
    """Return a small sheet of the first image's maps alone, as they can be shown before there is a picture."""
    height, width = phrases.maps.shape[2:]
    factor = _PREVIEW_SIDE / max(height, width)
    blank = Image.new("RGB", (max(1, round(width * factor)), max(1, round(height * factor))))
    return _sheet([overlay(blank, weights, 1.0) for weights in phrases.maps[0]], list(phrases.labels))


def map_masks(phrases: PhraseMaps, size: Grid, *, phrase: int = 0, threshold: float = 0.0) -> Tensor:
    """Return [images * K, height, width], 0 to 1: each map from its least to its greatest value, image by image.

    Args:
        phrases: the maps.
        size: height and width of the masks.
        phrase: 0 for all of the K phrases, or the number of one, from 1.
        threshold: 0 for soft masks; above, masks are 1 where a map is at least this share of the way, and 0 elsewhere.

    Raises:
        ValueError: there is no phrase of that number.
    """
    count = len(phrases.labels)
    if not 0 <= phrase <= count:
        raise ValueError(f"phrase must be 0 for all, or from 1 to {count}, got {phrase}")
    chosen = phrases.maps if phrase == 0 else phrases.maps[:, phrase - 1 : phrase]
    maps = functional.interpolate(chosen, size=size, mode="bicubic", align_corners=False).flatten(0, 1)
    least, most = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    masks = (maps - least) / (most - least).clamp_min(1e-12)
    return (masks >= threshold).float() if threshold > 0 else masks


def _sheet(cells: list[Image.Image], names: list[str]) -> Image.Image:
    """Return pictures of one size in rows, each with its name below it."""
    columns = len(cells) if len(cells) <= 4 else int(np.ceil(np.sqrt(len(cells))))
    width, height = cells[0].size
    bar = max(14, width // 14)
    sheet = Image.new("RGB", (columns * width, -(-len(cells) // columns) * (height + bar)), _PAPER)
    for index, (cell, name) in enumerate(zip(cells, names, strict=True)):
        left, top = index % columns * width, index // columns * (height + bar)
        sheet.paste(cell, (left, top))
        _write(sheet, (left + bar // 3, top + height + bar // 8), name, bar * 0.7)
    return sheet


def _write(sheet: Image.Image, place: tuple[int, int], text: str, size: float) -> None:
    """Write a line of text of a size in pixels. Pillow before 10.1 has one small font of Latin letters, made larger."""
    try:
        ImageDraw.Draw(sheet).text(place, text, fill=_INK, font=ImageFont.load_default(size))
    except TypeError:
        font: Any = ImageFont.load_default()
        left, top, right, bottom = font.getbbox(letters := text.encode("latin-1", "replace").decode("latin-1"))
        mask = Image.new("L", (max(1, right - left), max(1, bottom - top)))
        ImageDraw.Draw(mask).text((-left, -top), letters, fill=255, font=font)
        factor = size / mask.height
        sheet.paste(_INK, place, mask.resize((max(1, round(mask.width * factor)), max(1, round(size)))))
