"""Composite tokens and end-token substitution: functions of the rows that a text encoder gave, which know no model.

Hu et al. 2024, section 3.2 (composite tokens) and 3.3 (end tokens). Nothing is changed in place; half types are added
up in float32. Rows are numbered over all chunks: the rows of chunk c begin at `CHUNK` * c with its start token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from ...merging.kernels import widen
from ..config import BindingConfig

CHUNK: Final = 77
"""Rows of one chunk: start token, up to 75 tokens, end token, padding."""


@dataclass(frozen=True)
class RowGroup:
    """The rows of one group: those of its subject, the first of which becomes the composite, and its modifiers'."""

    noun: tuple[int, ...]
    modifiers: tuple[int, ...]

    @property
    def rows(self) -> tuple[int, ...]:
        """All of them, the composite's first."""
        return (*self.noun, *self.modifiers)


@dataclass(frozen=True)
class PromptRows:
    """Which rows of one prompt, in one text encoder, are bound.

    Attributes:
        groups: the rows of each group; no row is in two of them.
        ends: the row of each chunk's end token.
        bare_ends: the same, of the prompt without modifiers.
    """

    groups: tuple[RowGroup, ...]
    ends: tuple[int, ...]
    bare_ends: tuple[int, ...]


def bind_rows(rows: Tensor, bare_rows: Tensor | None, prompt: PromptRows, config: BindingConfig) -> Tensor:
    """Return the rows of a bound prompt, [T, D] and of the dtype of `rows`.

    At strength 0 or without groups that is `rows` itself. Departure from the paper, whose sequence gets shorter: with
    `removed` "fill" each row that went into a composite becomes a copy of its chunk's last row, which is what a
    shortened sequence would be padded with. Cross-attention does not see the order of rows.

    Args:
        rows: [T, D], T a multiple of `CHUNK`, weighted by the host already.
        bare_rows: [T, D], those of the prompt without modifiers; None will do where `ends` is "off".
        prompt: which rows the groups and the end tokens are.
        config: weights, norm, and what becomes of the other rows.

    Raises:
        ValueError: the shapes differ, T is no number of chunks, or the groups and ends are those of other rows.
    """
    if config.is_neutral or not prompt.groups:
        return rows
    _check(rows, prompt)
    wide = widen(rows)
    composites = merge_groups(wide, prompt.groups, config.noun_weight, config.modifier_weight)
    if config.norm == "noun":
        composites = at_noun_length(composites, wide, prompt.groups)
    bound = wide.clone()
    bound[[group.noun[0] for group in prompt.groups]] = composites
    if config.ends != "off":
        if bare_rows is None or bare_rows.shape != rows.shape:
            got = bare_rows if bare_rows is None else list(bare_rows.shape)
            raise ValueError(f"bare_rows must be of shape {list(rows.shape)}, got {got}")
        bound = substitute_ends(bound, bare_rows, prompt.ends, prompt.bare_ends, align=config.ends)
    bound = remove_rows(bound, [row for group in prompt.groups for row in group.rows[1:]], config.removed)
    return (bound if config.strength == 1 else torch.lerp(wide, bound, config.strength)).to(rows.dtype)


def merge_groups(
    rows: Tensor, groups: Sequence[RowGroup], noun_weight: float = 1.0, modifier_weight: float = 1.0
) -> Tensor:
    """Return [K, D], half types as float32: each group's weighted sum of rows (Hu et al., section 3.2)."""
    wide = widen(rows)
    sums = [
        noun_weight * wide[list(group.noun)].sum(0) + modifier_weight * wide[list(group.modifiers)].sum(0)
        for group in groups
    ]
    return torch.stack(sums)


def at_noun_length(composites: Tensor, rows: Tensor, groups: Sequence[RowGroup]) -> Tensor:
    """Return composites [K, D] at the length of their first noun row in rows [T, D]. One of length 0 stays.

    Ours; the paper and its code leave the sum as it is, about twice as long as a word's row.
    """
    lengths = rows[[group.noun[0] for group in groups]].norm(dim=-1)
    return composites * (lengths / composites.norm(dim=-1).clamp_min(1e-12)).unsqueeze(-1)


def remove_rows(rows: Tensor, removed: Sequence[int], how: str) -> Tensor:
    """Return rows [T, D] in which the removed ones are their chunk's last row ("fill"), 0 ("zero") or kept ("keep").

    A row of zeros still takes part in the softmax with logit 0.
    """
    if how == "keep" or not removed:
        return rows
    index = torch.tensor(removed, device=rows.device)
    changed = rows.clone()
    changed[index] = rows[index // CHUNK * CHUNK + CHUNK - 1] if how == "fill" else 0
    return changed


def substitute_ends(
    rows: Tensor, bare_rows: Tensor, ends: Sequence[int], bare_ends: Sequence[int], align: str = "end"
) -> Tensor:
    """Return rows [T, D] whose end token and padding are those of the prompt without modifiers, chunk by chunk.

    Hu et al. 2024, section 3.3. "end": beginning with the other prompt's own end token; where its rows run out the last
    one repeats. "position": from the same places, as the authors' code does, which never copies the other end token.
    """
    changed = rows.clone()
    for chunk, (end, bare_end) in enumerate(zip(ends, bare_ends, strict=True)):
        stop = (chunk + 1) * CHUNK
        source = torch.arange(end, stop, device=rows.device)
        if align == "end":
            source = (source - end + bare_end).clamp_max(stop - 1)
        changed[end:stop] = bare_rows[source].to(rows.dtype)
    return changed


def _check(rows: Tensor, prompt: PromptRows) -> None:
    length = rows.shape[0]
    if rows.dim() != 2 or length % CHUNK:
        raise ValueError(f"rows must be of shape [chunks * {CHUNK}, D], got {list(rows.shape)}")
    chunks = length // CHUNK
    if len(prompt.ends) != chunks or len(prompt.bare_ends) != chunks:
        raise ValueError(f"prompt must name an end of each of {chunks} chunks, got {prompt.ends}, {prompt.bare_ends}")
    named = [row for group in prompt.groups for row in group.rows]
    if len(set(named)) != len(named) or not all(0 <= row < length for row in named):
        raise ValueError(f"prompt must name each row once, from 0 to {length - 1}, got {named}")
