"""How far something is from what it should be: of pictures in decibels, of latents and model outputs as a fraction."""

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

SSIM_WINDOW: Final = 11  # pixels a side, with Gaussian weights of this deviation: those of the paper
SSIM_SIGMA: Final = 1.5
SSIM_CONSTANTS: Final = (0.01**2, 0.03**2)  # (K1 L)^2 and (K2 L)^2 for pictures in [0, 1]


def psnr(pictures: Tensor, references: Tensor, *, peak: float = 1.0) -> Tensor:
    """Return the peak signal-to-noise ratio of each picture in dB, [B]; infinite where it equals its reference.

    Args:
        pictures: [B, ...], any type; references: the same shape.
        peak: the brightest value that a picture can have (255 for bytes).

    Raises:
        ValueError: the shapes differ.
    """
    squared = _rows(pictures, references).square().mean(dim=1)
    return 10 * torch.log10(peak**2 / squared)


def relative_deviation(x: Tensor, reference: Tensor) -> Tensor:
    """Return |x - reference| / |reference| of each row in the Euclidean norm, [B]; 0 where they are equal.

    Args:
        x: [B, ...], any type; reference: the same shape.

    Raises:
        ValueError: the shapes differ.
    """
    difference = _rows(x, reference).norm(dim=1)
    return torch.where(difference == 0, difference, difference / reference.double().flatten(1).norm(dim=1))


def ssim(pictures: Tensor, references: Tensor) -> Tensor:
    """Return the structural similarity of each picture, [B]; 1 where it equals its reference.

    The index of Wang et al. 2004 (equation 13) with its window and constants, averaged over places where the whole
    window lies in the picture. Departure: it is the mean of the channels' own, since here hue alone may change.

    Args:
        pictures: [B, C, H, W] in [0, 1], H and W at least 11; references: the same shape.

    Raises:
        ValueError: the shapes differ, or a side is below 11.
    """
    _check(pictures, references)
    if min(pictures.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(f"pictures must be at least {SSIM_WINDOW} pixels a side, got {list(pictures.shape[-2:])}")
    x, y = (given.double().flatten(0, 1)[:, None] for given in (pictures, references))  # [B * C, 1, H, W]
    mean_x, mean_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = SSIM_CONSTANTS
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return (luminance * structure).reshape(len(pictures), -1).mean(dim=1)


def cosine_distance(x: Tensor, reference: Tensor) -> Tensor:
    """Return 1 less the cosine between each row of x [B, D] and its reference, [B]; 0 where they point the same way."""
    _check(x, reference)
    return 1 - F.cosine_similarity(x.double(), reference.double(), dim=1)


def _blur(x: Tensor) -> Tensor:
    """Return the windowed means of [N, 1, H, W]; the Gaussian window is a row of weights times a column of them."""
    places = torch.arange(SSIM_WINDOW, dtype=x.dtype, device=x.device) - SSIM_WINDOW // 2
    weights = torch.exp(-(places**2) / (2 * SSIM_SIGMA**2))
    weights = weights / weights.sum()
    return F.conv2d(F.conv2d(x, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))


def _rows(x: Tensor, reference: Tensor) -> Tensor:
    """Return x - reference as [B, M], in float64: a sum over millions of pixels in float32 would be rough."""
    _check(x, reference)
    return (x.double() - reference.double()).flatten(1)


def _check(x: Tensor, reference: Tensor) -> None:
    if x.shape != reference.shape:
        raise ValueError(f"reference must be of shape {list(x.shape)}, got {list(reference.shape)}")
