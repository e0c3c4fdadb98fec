"""The images of a sampling run, each known again from call to call and from step to step.

A host evaluates an image's prompt and its empty prompt together or apart, and several images in one call or in several.
What they share is the noisy latent: rows of the same latent at the same timestep are one `Image`. In the next step it
is the one whose latent is most like it, since a step leaves most of the noise in place.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from ..merging import MergePlan

_SAME_IMAGE = 1.0  # distance of the directions of two successive latents of an image, at most: 60 degrees
_ODD = 0x9E3779B97F4A7C15 - 2**64  # 2**64 over the golden ratio: multiples of it are spread evenly over 64 bits


@dataclass(eq=False)
class Image:
    """One image at one step of its run.

    Attributes:
        x: [C, height, width] float32, its noisy latent.
        t: its timestep.
        before: the same image one step earlier; None in the first step that is known, and once it is two steps old.
        is_first: whether no earlier step was known when this one began.
        clean: the clean latents that the model predicted in this step, like `x`, by the number of their text.
        plans: what is merged in this step: a plan and the image's row in it, by what the plan was asked for.
        age: steps since those plans were made.
    """

    x: Tensor
    t: float
    before: "Image | None" = None
    is_first: bool = True
    clean: dict[int, Tensor] = field(default_factory=dict)
    plans: dict[Hashable, tuple[MergePlan, int]] = field(default_factory=dict)
    age: int = 0


class SamplingRun:
    """The images of the present and of the last step of a sampling run. Timesteps that go up begin another run.

    Reads numbers back from the device once or twice a call: it has to wait for what was computed before.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin another run: nothing that was met so far is known any more."""
        self._timestep = -torch.inf
        self._last: list[Image] = []
        self._present: dict[Hashable, Image] = {}
        self._is_told_apart = False

    def begin(self) -> None:
        """Begin another run, and trust the caller to do so before each further one.

        Then an image whose noise was replaced (LCM and ancestral samplers do that) is known by its place among the
        images of a step, where its latent no longer tells.
        """
        self.forget()
        self._is_told_apart = True

    @torch.no_grad()
    def meet(self, x: Tensor, timesteps: Sequence[float]) -> list[Image]:
        """Return the image of each row of a model call; equal rows have the very same one.

        Args:
            x: [B, C, height, width], noisy latents. They are copied.
            timesteps: B numbers. The highest is that of the step: calls with the same one are one step.
        """
        x = x.detach().float().clone()
        self._turn_to(max(timesteps))
        keys = [(x.shape[1:], x.device, *row) for row in zip(timesteps, fingerprints(x), strict=True)]
        new = {key: row for row, key in reversed(list(enumerate(keys))) if key not in self._present}
        for row in sorted(new.values()):
            image = Image(x[row], timesteps[row])
            image.before = self._before(image, place=len(self._present))
            image.is_first = image.before is None
            self._present[keys[row]] = image
        return [self._present[key] for key in keys]

    def _turn_to(self, timestep: float) -> None:
        if timestep > self._timestep:
            is_told_apart = self._is_told_apart
            self.forget()
            self._is_told_apart = is_told_apart
        elif timestep < self._timestep:
            self._last, self._present = list(self._present.values()), {}
            for image in self._last:
                image.before = None  # two steps old from now on
        self._timestep = timestep

    def _before(self, image: Image, place: int) -> Image | None:
        """Return what an image was in the last step, if that is known."""
        x = image.x
        known = [old for old in self._last if old.t > image.t and (old.x.shape, old.x.device) == (x.shape, x.device)]
        if not known:
            return None
        direction = functional.normalize(torch.stack([x, *(old.x for old in known)]).flatten(1), dim=1)
        distance = (direction[1:] - direction[0]).norm(dim=1).tolist()  # its cosine would be too coarse for close ones
        nearest = min(range(len(known)), key=distance.__getitem__)
        if distance[nearest] < _SAME_IMAGE:
            return known[nearest]
        return known[place] if self._is_told_apart and place < len(known) else None


def fingerprints(x: Tensor) -> list[int]:
    """Return a number for each row of x [B, ...], any float dtype, that tells it by its values in float32.

    Other values have the same number by chance alone, once in about 2**64.
    """
    bits = x.detach().float().contiguous().flatten(1).view(torch.int32).long()  # [B, D]
    factors = (torch.arange(bits.shape[1], device=x.device) * _ODD) | 1
    return (bits * factors).sum(dim=1).tolist()  # whole numbers overflow alike in any order
