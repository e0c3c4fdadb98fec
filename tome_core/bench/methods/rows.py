"""Pictures under some of a prompt's text rows, which show what a model reads from which (Hu et al. 2024, figure 2)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...demo.architecture import end_places
from ..drawing import sampling
from ..drawing.method import Method, sources
from ..drawing.sampling import Drawn, Settings, draw, encode_prompts
from ..suites import Case

Rows = tuple[Tensor, Tensor]
"""Text rows [B, 77, D], and which of them the denoiser sees, bool [B, 77]."""


def noun_row(pipeline: Any, cases: Sequence[Case]) -> Rows:
    """Return the rows of cases of one object, of which the start row and the noun's row are seen: "square" alone."""
    rows, ends, positions = _encode(pipeline, cases)
    return rows, (positions == 0) | (positions == ends - 1)


def end_rows(pipeline: Any, cases: Sequence[Case]) -> Rows:
    """Return the rows of the prompts, of which the start row and all rows from the end token on are seen."""
    rows, ends, positions = _encode(pipeline, cases)
    return rows, (positions == 0) | (positions >= ends)


def added_row(pipeline: Any, cases: Sequence[Case]) -> Rows:
    """Return the rows of "a square", with row(red) + row(square) of "a red square" where "square" is; all are seen."""
    full, ends, _ = _encode(pipeline, cases)
    rows, tokens = encode_prompts(pipeline, [f"a {case.wanted[0][1]}" for case in cases])
    index, noun = torch.arange(len(cases)), ends[:, 0] - 1
    rows[index, end_places(tokens) - 1] = full[index, noun] + full[index, noun - 1]
    return rows, torch.ones_like(tokens, dtype=torch.bool)


def _encode(pipeline: Any, cases: Sequence[Case]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows [B, 77, D], the positions of the end tokens [B, 1], and all positions [77]."""
    rows, tokens = encode_prompts(pipeline, [case.prompt for case in cases])
    return rows, end_places(tokens)[:, None], torch.arange(tokens.shape[1], device=tokens.device)


@dataclass(frozen=True)
class SeenRows(Method):
    """Draws cases of one object under the rows that a function chooses."""

    rows_of: Callable[[Any, Sequence[Case]], Rows]

    @property
    def identity(self) -> dict[str, Any]:
        """The rows that are seen, with the code that chooses them."""
        return {"rows": self.rows_of.__name__, "code": sources(__file__, sampling.__file__)}

    def draw(self, pipeline: Any, cases: Sequence[Case], settings: Settings) -> Drawn:
        """Return one picture a case. The empty prompt, against which guidance works, keeps all of its rows."""
        rows, keep = self.rows_of(pipeline, cases)
        mask = {"encoder_attention_mask": torch.cat([torch.ones_like(keep), keep])}
        hook = pipeline.unet.register_forward_pre_hook(lambda _, x, given: (x, given | mask), with_kwargs=True)
        try:
            return draw(pipeline, rows, [case.seed for case in cases], settings)
        finally:
            hook.remove()
