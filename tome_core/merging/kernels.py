"""The operations behind every merge, in plain torch: reduce the rows of each segment, copy rows back.

All work on flat rows [R, C], so that a whole batch is one call and an index is one integer per row
instead of one per element, which is what a gather along dim 1 of [B, N, C] needs.
"""

import torch
from torch import Tensor
from torch.nn import functional

_BAG_DEVICES = ("cpu", "cuda")  # where every supported torch has embedding_bag: gather and sum in one pass, no atomics


def sum_segments(rows: Tensor, order: Tensor, starts: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return [S, C]: the sum of the rows in each of S segments, accumulated in float32 or better, in their dtype.

    Args:
        rows: [R, C], any float dtype.
        order: [R] int64, row numbers, those of one segment next to each other.
        starts: [S] int64, where each segment begins in `order`; no segment is empty.
        weights: [R] in the dtype of `rows`, a factor for each entry of `order`. None: all 1.
    """
    if rows.device.type in _BAG_DEVICES:
        return functional.embedding_bag(order, rows, starts, mode="sum", per_sample_weights=weights)
    return _sum_by_index_add(rows, order, starts, weights)


def mean_segments(rows: Tensor, order: Tensor, starts: Tensor, counts: Tensor) -> Tensor:
    """Return [S, C]: the mean of the rows in each segment, accumulated in float32 or better, in their dtype.

    `counts` [S] float32 are the lengths of the segments; the other arguments are those of `sum_segments`.
    """
    if rows.is_cuda:  # there the same kernel divides, before it rounds to a half type
        return functional.embedding_bag(order, rows, starts, mode="mean")
    return sum_segments(widen(rows), order, starts).div_(counts.unsqueeze(-1)).to(rows.dtype)


def gather_rows(rows: Tensor, index: Tensor) -> Tensor:
    """Return [I, C]: the rows [R, C] at `index` [I] int64.

    `embedding` is `index_select` forwards; backwards it sums the gradients of a row in a fixed order.
    """
    return functional.embedding(index, rows)


def widen(x: Tensor) -> Tensor:
    """Return `x` in float32 if it is of a half type, else `x` itself."""
    return x.float() if x.dtype.itemsize < 4 else x


def _sum_by_index_add(rows: Tensor, order: Tensor, starts: Tensor, weights: Tensor | None) -> Tensor:
    """Do the same as `sum_segments` with operators that every backend has (on a GPU index_add may use atomics)."""
    entries = widen(rows.index_select(0, order))
    if weights is not None:
        entries = entries * widen(weights).unsqueeze(-1)
    segment = torch.zeros_like(order).index_fill(0, starts, 1).cumsum(0) - 1  # of each entry
    return entries.new_zeros(len(starts), rows.shape[1]).index_add(0, segment, entries).to(rows.dtype)
