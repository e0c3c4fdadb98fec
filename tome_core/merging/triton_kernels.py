"""The operations behind every merge as Triton kernels: one launch to merge, one to unmerge and add to the residual.

Each program owns what it writes and reads the rows of a segment in their order, so there are no atomics and a call
gives the same bits each time. For inference: no gradient passes through. Importing this needs triton.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_MAX_BLOCK = 1024  # columns that one program works on


def mean_segments(rows: Tensor, order: Tensor, starts: Tensor) -> Tensor:
    """Return [S, C]: the mean of the rows in each segment, accumulated in float32, in their dtype.

    `rows` [R, C] have at most four bytes an element; `order` [R] and `starts` [S] are those of `kernels.sum_segments`.
    """
    rows = rows.contiguous()
    merged = rows.new_empty(len(starts), rows.shape[1])
    block, columns = _blocks(rows.shape[1])
    sizes = len(order), len(starts), rows.shape[1]
    _mean_segments[(len(starts), columns)](rows, order, starts, merged, *sizes, BLOCK=block)  # type: ignore
    return merged


def add_gathered(x: Tensor, y: Tensor, merged: Tensor, index: Tensor) -> Tensor:
    """Return [R, C]: x + (y - merged)[index], in float32 and rounded once, in the dtype of x.

    `x` is [R, C], `y` and `merged` are [S, C], all of one dtype of at most four bytes; `index` is [R] int64.
    """
    x, y, merged = x.contiguous(), y.contiguous(), merged.contiguous()
    out = torch.empty_like(x)
    block, columns = _blocks(x.shape[1])
    _add_gathered[(len(x), columns)](x, y, merged, index, out, x.shape[1], BLOCK=block)  # type: ignore
    return out


def _blocks(channels: int) -> tuple[int, int]:
    """Return the columns of a program, a power of two, and how many programs a row takes."""
    block = min(_MAX_BLOCK, triton.next_power_of_2(channels))
    return block, triton.cdiv(channels, block)


@triton.jit
def _mean_segments(rows, order, starts, merged, entries, segments, channels, BLOCK: tl.constexpr):
    segment = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < channels
    start = tl.load(starts + segment)
    end = tl.load(starts + segment + 1, mask=segment + 1 < segments, other=entries)
    total = tl.full((BLOCK,), 0.0, tl.float32)
    for i in range(start, end):
        row = tl.load(order + i)  # int64: a large batch has more than 2**31 elements
        total += tl.load(rows + row * channels + column, mask=inside, other=0.0).to(tl.float32)
    mean = total / (end - start).to(tl.float32)
    tl.store(merged + segment.to(tl.int64) * channels + column, mean.to(merged.dtype.element_ty), mask=inside)


@triton.jit
def _add_gathered(x, y, merged, index, out, channels, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < channels
    source = tl.load(index + row) * channels + column
    added = tl.load(y + source, mask=inside, other=0.0).to(tl.float32)
    added -= tl.load(merged + source, mask=inside, other=0.0).to(tl.float32)
    added += tl.load(x + row * channels + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * channels + column, added.to(out.dtype.element_ty), mask=inside)
