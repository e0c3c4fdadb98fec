"""What a method does to pictures of the demo model, beside its time: an arbitrary plan is as fast as a good one."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from ...demo import DEMO_GUIDANCE
from ...errors import UserError
from ...metrics import psnr, relative_deviation
from ..drawing.method import LeftOutError
from ..drawing.models import DEMO_SIZE, PictureModel
from ..drawing.sampling import Drawn, Settings
from ..methods.merging import Merging
from ..suites import load_suite

SUITE: Final = "single"
MOST_PROMPTS: Final = 30  # of that suite, the only part it has
SETTINGS: Final = Settings(steps=20, guidance=DEMO_GUIDANCE, size=DEMO_SIZE)
BATCH: Final = 4  # pictures at a time; each batch is a step of progress, after which an interrupt may come
_LOGGER: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class DemoFigures:
    """How far so many pictures, of so many steps and pixels a side, are from the untouched ones of the same noise."""

    pictures: int
    steps: int
    size: int
    psnr_db: float | None  # the mean over those that differ from the untouched ones; None where none does
    latent_deviation: float  # the mean relative deviation of their final latents


def demo_figures(
    methods: Sequence[Merging], prompts: int, device: str, on_batch: Callable[[], object]
) -> tuple[dict[Merging, DemoFigures], bool]:
    """Draw prompts with the demo model by every method, the first of which is untouched; return whether all are done.

    A method that the demo model does not take has no figures, and a warning says why. An interrupt ends the drawing.
    `on_batch` is called after each `BATCH` of a method, and after what is left over.
    """
    cases = load_suite(SUITE).cases("seen", prompts, 1)
    pipeline = PictureModel(device=device).open()
    found: dict[Merging, DemoFigures] = {}
    untouched = None
    for method in methods:
        parts: list[Drawn] = []
        try:
            for start in range(0, prompts, BATCH):
                parts.append(method.draw(pipeline, cases[start : start + BATCH], SETTINGS))
                on_batch()
        except (LeftOutError, UserError) as reason:
            _LOGGER.warning("%s has no figures of the demo model: %s", method.name, reason)
            continue
        except KeyboardInterrupt:
            return found, False
        drawn = Drawn(np.concatenate([x.pictures for x in parts]), np.concatenate([x.latents for x in parts]))
        untouched = untouched or drawn
        found[method] = _figures(drawn, untouched)
    return found, True


def _figures(drawn: Drawn, untouched: Drawn) -> DemoFigures:
    decibels = psnr(torch.from_numpy(drawn.pictures), torch.from_numpy(untouched.pictures), peak=255)
    decibels = decibels[decibels.isfinite()]  # an equal picture is infinitely near
    deviation = relative_deviation(torch.from_numpy(drawn.latents), torch.from_numpy(untouched.latents))
    nearness = decibels.mean().item() if len(decibels) else None
    return DemoFigures(len(drawn.pictures), SETTINGS.steps, SETTINGS.size, nearness, deviation.mean().item())
