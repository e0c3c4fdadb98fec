"""The images of a sampling run, each recognised from call to call and from step to step.

A host evaluates an image's prompt and its empty prompt together or apart, and several images in one call or in several.
What they share is the noisy latent: rows of the same latent at the same timestep are one `Image`. In the next step it
is the one whose latent is most like it, since a step leaves most of the noise in place.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from ...merging import MergePlan

_MOST_IMAGES = 256  # that a step may have
SAME_IMAGE = 1.0  # distance of the directions of two successive latents of an image, at most: 60 degrees
_ODD = 0x9E3779B97F4A7C15 - 2**64  # 2**64 over the golden ratio: multiples of it are spread evenly over 64 bits


@dataclass(eq=False)
class Image:
    """One image at one step of its run, and what the steps of the run hand on for it.

    Attributes:
        x: [C, height, width] float32, its noisy latent.
        t: its timestep.
        before: the same image one step earlier; None in the first step that is known, and once it is two steps old.
        is_first: whether no earlier step was known when this one began.
        clean: the clean latents that the model predicted in this step, like `x`, by the number of their text.
        plans: a plan and the image's row in it, by what the plan was made for.
        age: steps since `plans` were made.
    """

    x: Tensor
    t: float
    before: "Image | None" = None
    is_first: bool = True
    clean: dict[int, Tensor] = field(default_factory=dict)
    plans: dict[Hashable, tuple[MergePlan, int]] = field(default_factory=dict)
    age: int = 0


class ImageTracker:
    """The images of the present and of the last step of a sampling run. Timesteps that go up begin another run.

    Reads numbers back from the device once or twice a call: it has to wait for what was computed before.

    Args:
        is_announced: whether the caller makes a tracker for each run. Then an image whose noise was replaced (LCM and
            ancestral samplers do that) is recognised by its place among the images of a step where its latent no
            longer shows it.

    Attributes:
        timestep: of the present step; infinite before the first one.
    """

    def __init__(self, *, is_announced: bool = False) -> None:
        self._is_announced = is_announced
        self._forget()

    def _forget(self) -> None:
        self.timestep = math.inf
        self._last: list[Image] = []
        self._present: dict[Hashable, Image] = {}

    @torch.no_grad()
    def meet(self, x: Tensor, timesteps: Sequence[float]) -> list[Image]:
        """Return the image of each row of a model call; equal rows share one.

        Args:
            x: [B, C, height, width], noisy latents. They are copied.
            timesteps: B numbers. The highest is that of the step: calls with the same one are one step.
        """
        x = x.detach().float().clone()
        self._turn_to(max(timesteps))
        keys = [(x.shape[1:], *row) for row in zip(timesteps, fingerprints(x), strict=True)]
        new = {key: row for row, key in reversed(list(enumerate(keys))) if key not in self._present}
        for row in sorted(new.values()):
            image = Image(x[row], timesteps[row])
            image.before = self._before(image, place=len(self._present))
            image.is_first = image.before is None
            self._present[keys[row]] = image
        found = [self._present[key] for key in keys]
        for key in list(self._present)[: max(0, len(self._present) - max(_MOST_IMAGES, len(new)))]:
            del self._present[key]  # a model of one step never leaves it
        return found

    @property
    def texts(self) -> set[int]:
        """The numbers of the texts that the images of the present step were evaluated with."""
        return {text for image in self._present.values() for text in image.clean}

    @torch.no_grad()
    def distance(self, x: Tensor) -> float:
        """Return how far the nearest known image is from the nearest row of x [B, C, height, width].

        It is the distance of their directions: 0 for equal ones, 1.41 for unrelated noise. Infinite where no image of
        this size is known.
        """
        known = [image.x.to(x.device) for image in self._present.values() if image.x.shape == x.shape[1:]]
        if not known:
            return math.inf
        rows, old = (functional.normalize(y.float().flatten(1), dim=1) for y in (x, torch.stack(known)))
        return min((row - old).norm(dim=1).min().item() for row in rows)

    def _turn_to(self, timestep: float) -> None:
        if timestep > self.timestep:
            self._forget()
        elif timestep < self.timestep:
            self._last, self._present = list(self._present.values()), {}
            for image in self._last:
                image.before = None  # two steps old from now on
        self.timestep = timestep

    def _before(self, image: Image, place: int) -> Image | None:
        """Return what an image was in the last step, if that is known."""
        x = image.x
        known = [old for old in self._last if old.t > image.t and old.x.shape == x.shape]
        if not known:
            return None
        direction = functional.normalize(torch.stack([x, *(old.x.to(x.device) for old in known)]).flatten(1), dim=1)
        distance = (direction[1:] - direction[0]).norm(dim=1).tolist()  # its cosine would be too coarse for close ones
        nearest = min(range(len(known)), key=distance.__getitem__)
        if distance[nearest] < SAME_IMAGE:
            return known[nearest]
        return known[place] if self._is_announced and place < len(known) else None


def fingerprints(x: Tensor) -> list[int]:
    """Return a number for each row of x [B, ...], any float dtype, that depends on its values in float32 alone.

    Other values have the same number by chance alone, once in about 2**64.
    """
    bits = x.detach().float().contiguous().flatten(1).view(torch.int32).long()  # [B, D]
    factors = (torch.arange(bits.shape[1], device=x.device) * _ODD) | 1
    return (bits * factors).sum(dim=1).tolist()  # whole numbers overflow alike in any order
