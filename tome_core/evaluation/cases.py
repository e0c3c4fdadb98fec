"""What the demo model is asked to draw: prompts, what they should give, and which of their rows it sees."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..demo.architecture import end_places
from ..demo.scene import COLOURS, SHAPES, Kind
from .sampling import encode_prompts


@dataclass(frozen=True)
class Case:
    """One picture to make.

    Attributes:
        wanted: what it should hold, each an (attribute, shape), of which the attribute is a colour unless a suite says
            otherwise.
        prompt: what the model is told.
        seed: of its noise.
        phrases: the prompt in parts, one a wanted object and in the same order; empty where nobody asks for them.
        shuffled: the prompt with every attribute at the next object; the same prompt where there is only one.
    """

    wanted: tuple[Kind, ...]
    prompt: str
    seed: int
    phrases: tuple[str, ...] = ()
    shuffled: str = ""


def singles(count: int) -> list[Case]:
    """Return `count` cases of one object, every colour and shape in turn."""
    kinds = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    chosen = [kinds[i % len(kinds)] for i in range(count)]
    return [Case((kind,), f"a {kind[0]} {kind[1]}", 1000 + i) for i, kind in enumerate(chosen)]


Rows = tuple[Tensor, Tensor]
"""Text rows [B, 77, D], and which of them the denoiser sees, bool [B, 77]."""

RowsOf = Callable[[Any, list[Case]], Rows]
"""From a pipeline and B cases to their rows. Those that single rows out take cases of one object, "a red square"."""


def noun_row(pipeline: Any, cases: list[Case]) -> Rows:
    """Return the rows of the prompts, of which the start row and the noun's row are seen: "square" alone."""
    rows, ends, places = _encode(pipeline, cases)
    return rows, (places == 0) | (places == ends - 1)


def end_rows(pipeline: Any, cases: list[Case]) -> Rows:
    """Return the rows of the prompts, of which the start row and all rows from the end token on are seen."""
    rows, ends, places = _encode(pipeline, cases)
    return rows, (places == 0) | (places >= ends)


def added_row(pipeline: Any, cases: list[Case]) -> Rows:
    """Return the rows of "a square", with row(red) + row(square) of "a red square" where "square" is; all are seen."""
    full, ends, _ = _encode(pipeline, cases)
    rows, tokens = encode_prompts(pipeline, [f"a {case.wanted[0][1]}" for case in cases])
    index, noun = torch.arange(len(cases)), ends[:, 0] - 1
    rows[index, end_places(tokens) - 1] = full[index, noun] + full[index, noun - 1]
    return rows, torch.ones_like(tokens, dtype=torch.bool)


def _encode(pipeline: Any, cases: list[Case]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows [B, 77, D], the places of the end tokens [B, 1], and all places [77]."""
    rows, tokens = encode_prompts(pipeline, [case.prompt for case in cases])
    return rows, end_places(tokens)[:, None], torch.arange(tokens.shape[1], device=tokens.device)
