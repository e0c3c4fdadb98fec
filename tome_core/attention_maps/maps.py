"""Maps of a cross-attention layer, and figures of them: functions of tensors, which know no model."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..merging import MergePlan
from ..merging.kernels import widen

Grid = tuple[int, int]


class Phrase(NamedTuple):
    """A phrase of a prompt, and the rows of the encoded prompt whose attention is its own."""

    label: str
    rows: tuple[int, ...]


def attention_maps(
    q: Tensor, k: Tensor, heads: int, rows: Sequence[int], *, scale: float | None = None, mask: Tensor | None = None
) -> Tensor:
    """Return [B, K, N]: how much of each image token's attention goes to each chosen row, as a mean over the heads.

    The shares of all T rows add up to 1 in every token; half types are computed in float32, one head at a time.

    Args:
        q: [B, N, heads * d], of image tokens.
        k: [B, T, heads * d], of text rows.
        heads: number of heads.
        rows: the K rows to return, from 0 to T - 1.
        scale: factor of the products; None for 1 / sqrt(d).
        mask: added to the products, of a shape that [B, N, T] takes.

    Raises:
        ValueError: a row is not there.
    """
    if not rows or not all(0 <= row < k.shape[1] for row in rows):
        raise ValueError(f"rows must be one or more from 0 to {k.shape[1] - 1}, got {list(rows)}")
    width = q.shape[2] // heads
    total = torch.zeros(q.shape[0], len(rows), q.shape[1], device=q.device, dtype=widen(q).dtype)
    for head in range(heads):
        columns = slice(head * width, (head + 1) * width)
        logits = widen(q[..., columns]) @ widen(k[..., columns]).transpose(1, 2) * (scale or width**-0.5)
        if mask is not None:
            logits = logits + mask
        total += logits.softmax(dim=-1)[..., list(rows)].transpose(1, 2)
    return total / heads


def phrase_maps(
    q: Tensor,
    k: Tensor,
    heads: int,
    phrases: Sequence[Phrase],
    starts: Sequence[int] = (0,),
    *,
    scale: float | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Return [B, K, N]: the share of attention of each phrase, over all its rows in each copy of the prompt.

    Args:
        starts: the first row of each copy, since hosts repeat a prompt beside a longer one.

    The others are those of `attention_maps`.
    """
    rows = [[row + start for row in phrase.rows for start in starts] for phrase in phrases]
    maps = attention_maps(q, k, heads, [row for own in rows for row in own], scale=scale, mask=mask)
    return torch.stack([own.sum(1) for own in maps.split([len(own) for own in rows], dim=1)], dim=1)


def resize(maps: Tensor, grid: Grid) -> Tensor:
    """Return maps [B, K, height, width] on another grid, interpolated between tokens."""
    if maps.shape[2:] == grid:
        return maps
    return functional.interpolate(maps, size=grid, mode="bilinear", align_corners=False)


def slots_of(plan: MergePlan | None, merged: Tensor, grid: Grid) -> Tensor | None:
    """Return [B, N]: the place in `merged` [B, M, C] of each token of a grid; None where the plan is of others."""
    if plan is None or (plan.batch, plan.kept, plan.tokens) != (*merged.shape[:2], grid[0] * grid[1]):
        return None
    return plan.assignment


def on_grid(maps: Tensor, slots: Tensor | None, grid: Grid) -> Tensor:
    """Return maps [B, K, N] as float32 [B, K, height, width].

    With slots [B, N] the maps are [B, K, M] of merged tokens, and each token gets the values of its slot.
    """
    if slots is not None:
        maps = maps.gather(2, slots.unsqueeze(1).expand(-1, maps.shape[1], -1))
    return maps.float().unflatten(2, grid)


def entropy(maps: Tensor) -> Tensor:
    """Return [...] in nats: how spread out each map [..., height, width] is, from 0 to ln(height * width).

    Hu et al. 2024, section 3.3, the entropy of a map that is divided by its sum. It is no measure of the picture's
    quality. A map of zeros is as spread out as can be.
    """
    shares = _shares(maps)
    return -torch.special.xlogy(shares, shares).sum(dim=-1)


def overlap(maps: Tensor) -> Tensor:
    """Return [..., K, K]: what share of one map of [..., K, height, width] lies where the other one does, 0 to 1."""
    shares = _shares(maps)
    return torch.minimum(shares.unsqueeze(-2), shares.unsqueeze(-3)).sum(dim=-1)


def _shares(maps: Tensor) -> Tensor:
    flat = maps.flatten(-2)
    total = flat.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, flat / total.clamp_min(1e-30), torch.full_like(flat, 1 / flat.shape[-1]))
