"""What is read off each picture: how it meets its prompt, and how far it is from the untouched picture."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...demo.architecture import PICTURE_SIZE, PictureTower
from ...demo.contrastive import HEADS, load_pair
from ...demo.pixels import to_unit
from ...errors import UserError
from ...metrics import psnr, relative_deviation, ssim
from ..drawing.sampling import Drawn
from ..judge import Score, judge, score
from ..suites import Case


@dataclass(frozen=True)
class Fidelity:
    """How far a picture is from the untouched one of the same prompt and noise."""

    psnr: float  # dB, infinite where they are equal
    ssim: float  # 1 where they are equal
    latent_deviation: float  # of the final latents, as a fraction of the untouched one's norm
    clip_distance: float | None  # in the project's own CLIP picture tower: 1 - cosine, 0 where they are equal


class Reader:
    """Reads pictures; `judged` says whether the judge knows the attribute that binds in them.

    checkpoint: the weights that drew them. The picture tower that was trained with them lies beside that file. None
        for a model of another kind, whose pictures that tower does not know: they have no distance in it.

    Raises `UserError` for a checkpoint without a picture tower.
    """

    def __init__(self, checkpoint: Path | None, *, judged: bool) -> None:
        self.judged = judged
        self._tower = None if checkpoint is None else _load_tower(checkpoint)

    def score(self, case: Case, drawn: Drawn) -> Score | None:
        """Return how a picture meets its prompt; None where the judge cannot say."""
        return score(judge(drawn.pictures[0]), case.wanted) if self.judged else None

    def fidelity(self, drawn: Drawn, untouched: Drawn) -> Fidelity:
        """Compare one picture with the untouched one."""
        pictures, references = to_unit(drawn.pictures), to_unit(untouched.pictures)
        latents = [torch.from_numpy(x.latents) for x in (drawn, untouched)]
        return Fidelity(
            psnr((pictures + 1) / 2, (references + 1) / 2).item(),
            ssim((pictures + 1) / 2, (references + 1) / 2).item(),
            relative_deviation(latents[0], latents[1]).item(),
            None if self._tower is None else _clip_distance(self._tower, pictures, references),
        )


@torch.no_grad()
def _clip_distance(tower: PictureTower, pictures: Tensor, references: Tensor) -> float:
    small = (F.interpolate(x, (PICTURE_SIZE, PICTURE_SIZE), mode="area") for x in (pictures, references))
    first, second = (tower(x).double() for x in small)
    return 1 - F.cosine_similarity(first, second, dim=1).item()


def _load_tower(checkpoint: Path) -> PictureTower:
    heads = checkpoint.with_name(HEADS.name)
    if not heads.is_file():
        raise UserError(f"checkpoint must have the picture tower {HEADS.name} beside it, got {checkpoint}")
    return load_pair(nn.Identity(), heads).picture
