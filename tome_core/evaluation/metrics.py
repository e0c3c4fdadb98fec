"""How far something is from what it should be: of pictures in decibels, of latents and model outputs as a fraction."""

import torch
from torch import Tensor


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


def _rows(x: Tensor, reference: Tensor) -> Tensor:
    """Return x - reference as [B, M], in float64: a sum over millions of pixels in float32 would be rough."""
    if x.shape != reference.shape:
        raise ValueError(f"reference must be of shape {list(x.shape)}, got {list(reference.shape)}")
    return (x.double() - reference.double()).flatten(1)
