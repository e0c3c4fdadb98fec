"""How far something is from what it should be: pictures in decibels and similarity, tensors as a fraction."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

SSIM_WINDOW: Final = 11  # pixels a side, with Gaussian weights of this deviation: those of the paper
SSIM_SIGMA: Final = 1.5
SSIM_CONSTANTS: Final = (0.01**2, 0.03**2)  # (K1 L)^2 and (K2 L)^2 for pictures in [0, 1]


def psnr(pictures: Tensor, references: Tensor, *, peak: float = 1.0) -> Tensor:
    """Return the peak signal-to-noise ratio of each picture [B, ...] in dB, [B]; infinite where both are equal.

    peak: the brightest value that a picture can have (255 for bytes). Raises ValueError where the shapes differ.
    """
    squared = _difference(pictures, references).square().mean(dim=1)
    return 10 * torch.log10(peak**2 / squared)


def relative_deviation(x: Tensor, reference: Tensor) -> Tensor:
    """Return |x - reference| / |reference| of each row of [B, ...] in the Euclidean norm, [B]; 0 where they are equal.

    Raises ValueError where the shapes differ.
    """
    difference = _difference(x, reference).norm(dim=1)
    return torch.where(difference == 0, difference, difference / reference.double().flatten(1).norm(dim=1))


def ssim(pictures: Tensor, references: Tensor) -> Tensor:
    """Return the structural similarity of each picture [B, C, H, W] in [0, 1], [B]; 1 where it equals its reference.

    The index of Wang et al. 2004 (equation 13) with its window and constants, averaged over positions where the whole
    window lies in the picture. Departure: it is the mean of the channels' own, since here hue alone may change.

    Raises ValueError where the shapes differ, or a side is below 11 pixels.
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


@dataclass(frozen=True)
class PictureComparison:
    """How far pictures are from their references.

    Attributes:
        difference: [B, H, W, 3] in [0, 1], the absolute difference times the gain; black where they are equal.
        psnr: of each picture, in dB; infinite where it equals its reference.
        ssim: of each picture; 1 where it equals its reference, None where a side is too short for the window.
    """

    difference: Tensor
    psnr: tuple[float, ...]
    ssim: tuple[float | None, ...]

    @property
    def mean_psnr(self) -> float:
        """Mean in dB over the pictures that differ from their references; infinite where none does."""
        finite = [value for value in self.psnr if value != float("inf")]
        return sum(finite) / len(finite) if finite else float("inf")

    @property
    def mean_ssim(self) -> float:
        """Mean over the pictures; not a number where they are too small."""
        known = [value for value in self.ssim if value is not None]
        return sum(known) / len(known) if known else float("nan")

    def __str__(self) -> str:
        lines = [_sentence(*figures) for figures in zip(self.psnr, self.ssim, strict=True)]
        return lines[0] if len(lines) == 1 else "\n".join(f"{i}: {line}" for i, line in enumerate(lines, start=1))


def compare_pictures(pictures: Tensor, references: Tensor, *, gain: float = 1.0) -> PictureComparison:
    """Return how far pictures are from their references, both [B, H, W, C] in [0, 1].

    Channels above three, such as transparency, are ignored. Either side may be one picture, which then serves for all.
    gain: how many times brighter than the difference its picture is.

    Raises ValueError for pictures and references of different sizes or numbers.
    """
    pictures, references = pictures[..., :3], references[..., :3]
    sizes = [f"{given.shape[2]}x{given.shape[1]} pixels" for given in (pictures, references)]
    if sizes[0] != sizes[1]:
        raise ValueError(f"images must be of one size, got {sizes[0]} and {sizes[1]}")
    count = max(len(pictures), len(references))
    if any(len(given) not in (1, count) for given in (pictures, references)):
        raise ValueError(f"batches must be of one length, or one of them 1, got {len(pictures)} and {len(references)}")
    pictures, references = (given.expand(count, -1, -1, -1).float().cpu() for given in (pictures, references))
    planes = pictures.movedim(-1, 1), references.movedim(-1, 1)  # [B, C, H, W]
    is_large = min(pictures.shape[1:3]) >= SSIM_WINDOW
    return PictureComparison(
        difference=((pictures - references).abs() * gain).clamp(0, 1),
        psnr=tuple(psnr(*planes).tolist()),
        ssim=tuple(ssim(*planes).tolist()) if is_large else (None,) * count,
    )


def _sentence(decibels: float, similarity: float | None) -> str:
    if decibels == float("inf"):
        return "the images are equal"
    return f"PSNR {decibels:.1f} dB, " + ("too small for SSIM" if similarity is None else f"SSIM {similarity:.3f}")


def _blur(x: Tensor) -> Tensor:
    """Return the windowed means of [N, 1, H, W]; the Gaussian window is a row of weights times a column of them."""
    offsets = torch.arange(SSIM_WINDOW, dtype=x.dtype, device=x.device) - SSIM_WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    weights = weights / weights.sum()
    return F.conv2d(F.conv2d(x, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))


def _difference(x: Tensor, reference: Tensor) -> Tensor:
    """Return x - reference as [B, M], in float64: a sum over millions of pixels in float32 would be rough."""
    _check(x, reference)
    return (x.double() - reference.double()).flatten(1)


def _check(x: Tensor, reference: Tensor) -> None:
    if x.shape != reference.shape:
        raise ValueError(f"reference must be of shape {list(x.shape)}, got {list(reference.shape)}")
