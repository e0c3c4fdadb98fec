"""Two batches of pictures side by side: where they differ, for the eye, and how much, in figures."""

from dataclasses import dataclass

from torch import Tensor

from .metrics import SSIM_WINDOW, psnr, ssim


@dataclass(frozen=True)
class Comparison:
    """How far pictures are from their references.

    Attributes:
        difference: [B, H, W, 3] in [0, 1], the absolute difference times the gain; black where they are equal.
        psnr: of each picture, in dB; infinite where it equals its reference.
        ssim: of each picture; 1 where it equals its reference, None where a side is too short for its window.
    """

    difference: Tensor
    psnr: tuple[float, ...]
    ssim: tuple[float | None, ...]

    @property
    def mean_psnr(self) -> float:
        """Mean over the pictures in dB; infinite only where all equal their references.

        Equal pictures are left out of the mean, which they would make infinite.
        """
        finite = [value for value in self.psnr if value != float("inf")]
        return sum(finite) / len(finite) if finite else float("inf")

    @property
    def mean_ssim(self) -> float:
        """Mean over the pictures; not a number where they are too small."""
        known = [value for value in self.ssim if value is not None]
        return sum(known) / len(known) if known else float("nan")

    def __str__(self) -> str:
        return "\n".join(
            _sentence(number, *figures, alone=len(self.psnr) == 1)
            for number, figures in enumerate(zip(self.psnr, self.ssim, strict=True), start=1)
        )


def compare_pictures(pictures: Tensor, references: Tensor, *, gain: float = 1.0) -> Comparison:
    """Return how far pictures are from their references.

    Args:
        pictures: [B, H, W, C] in [0, 1]; channels above three, such as transparency, are not looked at.
        references: the same, or with one picture that serves for all (as may `pictures`).
        gain: the difference picture is so many times brighter than the difference.

    Raises:
        ValueError: pictures and references are of different sizes or numbers.
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
    return Comparison(
        difference=((pictures - references).abs() * gain).clamp(0, 1),
        psnr=tuple(psnr(*planes).tolist()),
        ssim=tuple(ssim(*planes).tolist()) if is_large else (None,) * count,
    )


def _sentence(number: int, decibels: float, similarity: float | None, *, alone: bool) -> str:
    start = "" if alone else f"{number}: "
    if decibels == float("inf"):
        return f"{start}the images are equal"
    told = "too small for SSIM" if similarity is None else f"SSIM {similarity:.3f}"
    return f"{start}PSNR {decibels:.1f} dB, {told}"
