"""Two methods whose effect is known beforehand: a harness that does not see them would see nothing else either."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn

from .. import sampling
from ..cases import Case
from ..sampling import Drawn, Settings, draw, encode_prompts
from .method import Method, sources

APART: Final = 0.4
"""Share of the schedule, from the noisy end on, in which regions are denoised as pictures of their own."""


def draw_by_region(pipeline: Any, cases: Sequence[Case], settings: Settings) -> Drawn:
    """Draw each phrase of a prompt in a region of its own: the picture's columns, shared out in the prompt's order.

    While the layout is decided each region is denoised as a picture of its own, so that an object comes to lie whole
    within it. Then all see the whole picture, so that the ground becomes one, and what is predicted under each phrase
    counts in its region, in the manner of MultiDiffusion (Bar-Tal et al. 2023); guidance is linear, so blending the
    conditional predictions blends the guided ones. The layout is given: this shows what the model could do if nothing
    were bound wrongly.

    Raises ValueError for cases with different numbers of phrases, or with none.
    """
    counts = {len(case.phrases) for case in cases}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"phrases must be equally many in each case and at least one, got {sorted(counts)}")
    by_place = zip(*(case.phrases for case in cases), strict=True)
    rows = [encode_prompts(pipeline, list(phrases))[0] for phrases in by_place]
    last_apart = (1 - APART) * len(pipeline.scheduler.alphas_cumprod)
    with _Regions(rows, last_apart).on(pipeline.unet):
        return draw(pipeline, [case.prompt for case in cases], [case.seed for case in cases], settings)


def draw_shuffled(pipeline: Any, cases: Sequence[Case], settings: Settings) -> Drawn:
    """Draw the prompts in which every attribute stands at the next object: what they ask for is wrongly bound."""
    return draw(pipeline, [case.shuffled for case in cases], [case.seed for case in cases], settings)


_CODE: Final = sources(__file__, sampling.__file__)
POSITIVE: Final = Method("positive-control", {"draws": "phrases by region", "code": _CODE}, draw_by_region)
NEGATIVE: Final = Method("negative-control", {"draws": "shuffled prompts", "code": _CODE}, draw_shuffled)
CONTROLS: Final = (POSITIVE, NEGATIVE)


class _Regions:
    """Turns a denoiser's calls into calls by region, by hooks alone.

    A call has B unconditional and B conditional rows. Of K regions each has its own text rows, [B, 77, D].
    """

    def __init__(self, rows: Sequence[Tensor], last_apart: float) -> None:
        self._rows = rows
        self._last_apart = last_apart  # timestep
        self._given: tuple[tuple[Any, ...], dict[str, Any]] = (), {}

    @contextmanager
    def on(self, unet: nn.Module) -> Iterator[None]:
        """Inside the block, `unet` is called by region."""
        before = unet.register_forward_pre_hook(self._before, with_kwargs=True)
        after = unet.register_forward_hook(self._after)
        try:
            yield
        finally:
            before.remove()
            after.remove()

    def _before(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        self._given = args, kwargs
        if self._apart(args):
            return (self._split(args[0])[0], *args[1:]), self._with_rows(kwargs, self._rows[:1])
        uncond, cond = args[0].chunk(2)
        return (torch.cat([uncond, *[cond] * len(self._rows)]), *args[1:]), self._with_rows(kwargs, self._rows)

    def _after(self, unet: nn.Module, _: tuple[Any, ...], output: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Put the regions together; while they are apart, `output` is the first one's and the others are called now."""
        args, kwargs = self._given
        if self._apart(args):
            calls = zip(self._split(args[0])[1:], self._rows[1:], strict=True)
            others = [unet.forward(x, *args[1:], **self._with_rows(kwargs, [rows]))[0] for x, rows in calls]
            return (torch.cat([output[0], *others], dim=-1),)
        uncond, *conds = output[0].chunk(1 + len(self._rows))
        own = [self._split(cond)[place] for place, cond in enumerate(conds)]
        return (torch.cat([uncond, torch.cat(own, dim=-1)]),)

    def _apart(self, args: tuple[Any, ...]) -> bool:
        return int(args[1]) >= self._last_apart

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the columns of [..., W]."""
        return torch.tensor_split(x, len(self._rows), dim=-1)

    def _with_rows(self, kwargs: dict[str, Any], rows: Sequence[Tensor]) -> dict[str, Any]:
        uncond = kwargs["encoder_hidden_states"].chunk(2)[0]
        return kwargs | {"encoder_hidden_states": torch.cat([uncond, *rows])}
