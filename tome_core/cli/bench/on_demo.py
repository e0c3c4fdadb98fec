"""What a method does to pictures of the demo model, beside its time: an arbitrary plan is as fast as a good one."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor

from ...demo import DEMO_GUIDANCE
from ...evaluation.metrics import psnr, relative_deviation
from ...evaluation.quality import Model
from ...evaluation.sampling import Drawn, Settings
from ...evaluation.suites import load_suite
from ..console import UserError, note
from .drawing import drawing_method
from .methods import LeftOutError, Merging

SUITE: Final = "single"
MOST_PROMPTS: Final = 30  # of that suite, the only split it has
SETTINGS: Final = Settings(steps=20, guidance=DEMO_GUIDANCE, size=256)
_BATCH: Final = 4  # pictures at a time; each batch is a step of progress, and a place to be interrupted


@dataclass(frozen=True)
class DemoFigures:
    """How far a method's pictures are from the untouched ones of the same prompts and noise.

    Attributes:
        pictures: how many of them.
        steps: of each.
        size: side in pixels.
        psnr_db: the mean over those that differ from the untouched ones; None where none does.
        latent_deviation: the mean relative deviation of their final latents.
    """

    pictures: int
    steps: int
    size: int
    psnr_db: float | None
    latent_deviation: float

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return asdict(self)


def batches(prompts: int) -> int:
    """Return how many batches that many prompts are."""
    return -(-prompts // _BATCH)


def demo_figures(
    methods: Sequence[Merging], prompts: int, device: str, on_batch: Callable[[], object]
) -> tuple[dict[Merging, DemoFigures], bool]:
    """Draw prompts with the demo model by every method, the first of which is untouched; return whether all are done.

    A method that the demo model does not take has no figures, and a note says why. Where an interrupt ends the
    drawing, the methods that are done have theirs.

    Args:
        methods: as they were fitted to the model that is timed.
        prompts: how many, one picture each.
        device: where the demo model runs, in float32.
        on_batch: called after each of the `batches(prompts)` of a method.
    """
    cases = load_suite(SUITE).cases("seen", prompts, 1)
    pipeline = Model(device=device).open()
    found: dict[Merging, DemoFigures] = {}
    untouched: list[Drawn] = []
    for method in methods:
        drawn: list[Drawn] = []
        try:
            drawing = drawing_method(method)
            for start in range(0, prompts, _BATCH):
                drawn.append(drawing.draw(pipeline, cases[start : start + _BATCH], SETTINGS))
                on_batch()
        except (LeftOutError, UserError) as reason:
            note(f"{method.name} has no figures of the demo model: {reason}")
            continue
        except KeyboardInterrupt:
            return found, False
        untouched = untouched or drawn
        found[method] = _figures(drawn, untouched)
    return found, True


def _figures(drawn: Sequence[Drawn], untouched: Sequence[Drawn]) -> DemoFigures:
    pictures, references = _joined([x.pictures for x in drawn]), _joined([x.pictures for x in untouched])
    latents, clean = _joined([x.latents for x in drawn]), _joined([x.latents for x in untouched])
    decibels = psnr(pictures, references, peak=255)
    decibels = decibels[decibels.isfinite()]  # an equal picture is infinitely near
    deviation = relative_deviation(latents, clean).mean().item()
    nearness = decibels.mean().item() if len(decibels) else None
    return DemoFigures(len(pictures), SETTINGS.steps, SETTINGS.size, nearness, deviation)


def _joined(arrays: Sequence[Any]) -> Tensor:
    return torch.cat([torch.from_numpy(array) for array in arrays])
