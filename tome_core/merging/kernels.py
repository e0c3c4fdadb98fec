"""The operations behind every merge, in plain torch: reduce the rows of each segment, copy rows back.

All work on flat rows [R, C], so that a whole batch is one call and an index is one integer per row
instead of one per element, which is what a gather along dim 1 of [B, N, C] needs.

On a GPU the two that every block needs are Triton kernels, where triton is installed and no gradient is asked for. In a
compiled call they are not: there the compiler makes its own.
"""

import functools
from types import ModuleType

import torch
from torch import Tensor
from torch.nn import functional

_is_compiling = getattr(torch.compiler, "is_compiling", bool)  # older torch has no such function
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
    triton_kernels = _triton_kernels(rows)
    if triton_kernels is not None:
        return triton_kernels.mean_segments(rows, order, starts)
    if rows.is_cuda:  # there the same kernel divides, before it rounds to a half type
        return functional.embedding_bag(order, rows, starts, mode="mean")
    return sum_segments(widen(rows), order, starts).div_(counts.unsqueeze(-1)).to(rows.dtype)


def gather_rows(rows: Tensor, index: Tensor) -> Tensor:
    """Return [I, C]: the rows [R, C] at `index` [I] int64.

    `embedding` is `index_select` forwards; backwards it sums the gradients of a row in a fixed order.
    """
    return functional.embedding(index, rows)


def add_gathered(x: Tensor, y: Tensor, merged: Tensor, index: Tensor) -> Tensor:
    """Return x + (y - merged)[index] [B, N, C]: at most three operations, one of them in place.

    Args:
        x: [B, N, C], any float dtype.
        y, merged: [B, M, C] in the dtype of `x`.
        index: [B * N] int64, for each row of the flattened `x` one of the flattened others.
    """
    channels = x.shape[-1]
    triton_kernels = _triton_kernels(x, y, merged)
    if triton_kernels is not None:
        flat = (tensor.reshape(-1, channels) for tensor in (x, y, merged))
        return triton_kernels.add_gathered(*flat, index).reshape(x.shape)
    return gather_rows((y - merged).reshape(-1, channels), index).reshape(x.shape).add_(x)


def widen(x: Tensor) -> Tensor:
    """Return `x` in float32 if it is of a half type, else `x` itself."""
    return x.float() if x.dtype.itemsize < 4 else x


def _triton_kernels(*tensors: Tensor) -> ModuleType | None:
    """Return the Triton kernels where they can do the work on these tensors."""
    first = tensors[0]
    if not first.is_cuda or _is_compiling() or any(x.dtype != first.dtype or x.dtype.itemsize > 4 for x in tensors):
        return None
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        return None
    return _working_triton_kernels(first.device)


@functools.cache
def _working_triton_kernels(device: torch.device) -> ModuleType | None:
    """Return the Triton kernels; None where triton is missing, or they do not compile or not agree on a device."""
    try:
        from . import triton_kernels

        return triton_kernels if _agree(triton_kernels, device) else None
    except Exception:  # such as no C compiler; whatever it is, plain torch does the work
        return None


def _agree(triton_kernels: ModuleType, device: torch.device) -> bool:
    """Return whether the Triton kernels give on a device what plain torch does: asked once, before they are trusted."""
    rows = torch.arange(12.0, device=device).reshape(4, 3)
    order, starts, index = (torch.tensor(x, device=device) for x in ([2, 0, 3, 1], [0, 3], [0, 1, 0, 0]))
    means = torch.stack([rows[[2, 0, 3]].mean(dim=0), rows[1]])
    y = rows[:2]
    return torch.allclose(triton_kernels.mean_segments(rows, order, starts), means) and torch.allclose(
        triton_kernels.add_gathered(rows, y, means, index), rows + (y - means)[index]
    )


def _sum_by_index_add(rows: Tensor, order: Tensor, starts: Tensor, weights: Tensor | None) -> Tensor:
    """Do the same as `sum_segments` with operators that every backend has (on a GPU index_add may use atomics)."""
    entries = widen(rows.index_select(0, order))
    if weights is not None:
        entries = entries * widen(weights).unsqueeze(-1)
    segment = torch.zeros_like(order).index_fill(0, starts, 1).cumsum(0) - 1  # of each entry
    return entries.new_zeros(len(starts), rows.shape[1]).index_add(0, segment, entries).to(rows.dtype)
