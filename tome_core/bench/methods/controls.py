"""Two methods whose effect is known beforehand: a harness that does not see them would see nothing else either."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn

from ..drawing import sampling
from ..drawing.method import Method, sources
from ..drawing.sampling import Drawn, Settings, draw, encode_prompts
from ..suites import Case

APART: Final = 0.4
"""Share of the schedule, from the noisy end on, in which regions are denoised as pictures of their own."""


class PositiveControl(Method):
    """Draws each phrase of a prompt in a region of its own: the picture's columns, shared out in the prompt's order.

    While the layout is decided each region is a picture of its own, so that an object lies whole within it. Then all
    see the whole picture, so that the ground becomes one, and what is predicted under each phrase counts in its region,
    in the manner of MultiDiffusion (Bar-Tal et al. 2023). This shows what the model could do if nothing were bound
    wrongly.
    """

    @property
    def identity(self) -> dict[str, Any]:
        """The way of drawing, with its code."""
        return {"draws": "phrases by region", "code": sources(__file__, sampling.__file__)}

    def on(self, model: Any, cases: Sequence[Case] = ()) -> Any:
        """Return a context in which a pipeline draws cases by region; each must have as many phrases, at least one."""
        counts = {len(case.phrases) for case in cases}
        if len(counts) != 1 or 0 in counts:
            raise ValueError(f"phrases must be equally many in each case and at least one, got {sorted(counts)}")
        by_position = zip(*(case.phrases for case in cases), strict=True)
        rows = [encode_prompts(model, phrases)[0] for phrases in by_position]
        last_apart = (1 - APART) * len(model.scheduler.alphas_cumprod)
        return _by_region(model.unet, rows, last_apart)


class NegativeControl(Method):
    """Draws the prompts in which every attribute stands at the next object: what they ask for is wrongly bound."""

    @property
    def identity(self) -> dict[str, Any]:
        """The way of drawing, with its code."""
        return {"draws": "shuffled prompts", "code": sources(__file__, sampling.__file__)}

    def draw(self, pipeline: Any, cases: Sequence[Case], settings: Settings) -> Drawn:
        """Return one picture a case."""
        return draw(pipeline, [case.shuffled for case in cases], [case.seed for case in cases], settings)


CONTROLS: Final = (PositiveControl("positive-control"), NegativeControl("negative-control"))


@contextmanager
def _by_region(unet: nn.Module, rows: Sequence[Tensor], last_apart: float) -> Iterator[None]:
    """Inside the block, a denoiser is called by region, each with its own text rows [B, 77, D], until `last_apart`."""
    whole = unet.forward

    def columns(x: Tensor) -> tuple[Tensor, ...]:
        return torch.tensor_split(x, len(rows), dim=-1)

    def forward(x: Tensor, t: Any, encoder_hidden_states: Tensor, **kwargs: Any) -> tuple[Tensor]:
        def call(x: Tensor, rows: Sequence[Tensor]) -> Tensor:
            return whole(x, t, encoder_hidden_states=torch.cat([encoder_hidden_states.chunk(2)[0], *rows]), **kwargs)[0]

        if int(t) >= last_apart:
            parts = [call(part, [own]) for part, own in zip(columns(x), rows, strict=True)]
            return (torch.cat(parts, dim=-1),)
        uncond, cond = x.chunk(2)
        uncond, *conds = call(torch.cat([uncond, *[cond] * len(rows)]), rows).chunk(1 + len(rows))
        own = [columns(cond)[column] for column, cond in enumerate(conds)]
        return (torch.cat([uncond, torch.cat(own, dim=-1)]),)

    unet.forward = forward
    try:
        yield
    finally:
        del unet.forward
