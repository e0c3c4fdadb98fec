"""`MergePlan`: which tokens become one, as a value that can be inspected, shared and applied.

Slots (the kept tokens) are numbered in the order of the sequence: a kept token never overtakes another one,
a class token in front stays in front, and neighbouring slots read neighbouring memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .kernels import gather_rows, mean_segments, sum_segments, widen


@dataclass(frozen=True, eq=False, repr=False)
class MergePlan:
    """A partition of N tokens into M slots, one for each of B rows; made by `tome_core.merging`'s matchings.

    Every shape is known from B, N and M, nothing is read back from the device, and no operation uses atomics
    (CPU and CUDA), so a plan gives the same bits each time and can enter a compiled call as tensors.

    Attributes:
        assignment: [B, N] int64, the slot of each token.
        sizes: [B, M] float32, how many tokens each slot stands for; each row sums to N (exact below 2**24).
        order: [B * N] int64, row numbers of the flattened batch, grouped by slot.
        starts: [B * M] int64, where each slot begins in `order`.
        slots: [B * N] int64, `assignment` as row numbers of the flattened merged batch.
        representatives: [B, N] int64, the token that each token becomes part of; a kept token is its own.
    """

    assignment: Tensor
    sizes: Tensor
    order: Tensor
    starts: Tensor
    slots: Tensor
    representatives: Tensor

    @classmethod
    def from_representatives(cls, representatives: Tensor, kept: int) -> "MergePlan":
        """Return the plan in which each token joins its representative.

        Args:
            representatives: [B, N] int64, the token that each token becomes part of. A kept token is its own.
            kept: number M of tokens per row that are their own representative. It must be right in every row:
                that is not checked, since reading it back would stall a GPU.
        """
        index = torch.arange(representatives.shape[1], device=representatives.device)
        slot_of_kept = (representatives == index).cumsum(dim=1) - 1
        return cls._from_assignment(slot_of_kept.gather(1, representatives), representatives, kept)

    @classmethod
    def identity(cls, batch: int, tokens: int, device: torch.device | str = "cpu") -> "MergePlan":
        """Return the plan that merges nothing: `merge` and `unmerge` hand back the very tensor they are given."""
        index = torch.arange(tokens, device=device)
        index = index.expand(batch, tokens)
        return cls._from_assignment(index, index, tokens)

    @classmethod
    def of_rows(cls, rows: Sequence[tuple["MergePlan", int]]) -> "MergePlan":
        """Return the plan whose rows are these: row i of each (plan, i), in this order. A row may come several times.

        Raises:
            ValueError: there is none, or they differ in their tokens or in how many are kept.
        """
        sizes = {(plan.tokens, plan.kept) for plan, _ in rows}
        if len(sizes) != 1:
            raise ValueError(f"rows must be one or more of the same tokens and kept tokens, got {sorted(sizes)}")
        ((tokens, kept),) = sizes
        return cls(
            assignment=torch.stack([plan.assignment[i] for plan, i in rows]),
            sizes=torch.stack([plan.sizes[i] for plan, i in rows]),
            order=_move([plan.order for plan, _ in rows], rows, tokens, step=tokens),
            starts=_move([plan.starts for plan, _ in rows], rows, kept, step=tokens),
            slots=_move([plan.slots for plan, _ in rows], rows, tokens, step=kept),
            representatives=torch.stack([plan.representatives[i] for plan, i in rows]),
        )

    @property
    def batch(self) -> int:
        """Number B of rows."""
        return self.assignment.shape[0]

    @property
    def tokens(self) -> int:
        """Number N of tokens per row before merging."""
        return self.assignment.shape[1]

    @property
    def kept(self) -> int:
        """Number M of tokens per row after merging."""
        return self.sizes.shape[1]

    @property
    def kept_tokens(self) -> Tensor:
        """Number of the token that each slot is named after, [B, M] int64, rising in each row."""
        index = torch.arange(self.tokens, device=self.representatives.device)
        is_merged = (self.representatives != index).to(torch.int8)
        return is_merged.argsort(dim=1, stable=True)[:, : self.kept]

    def merge(self, x: Tensor, *, mode: Literal["mean", "sum"] = "mean", sizes: Tensor | None = None) -> Tensor:
        """Return [B, M, C]: the mean or the sum of the tokens of each slot, in the dtype of `x`.

        Half types are accumulated in float32. Differentiable in `x`. A token that is alone in its slot is copied.

        Args:
            x: [B, N, C], any float dtype.
            mode: "mean" or "sum".
            sizes: [B, N], how many tokens each token of `x` already stands for (> 0), for a weighted mean
                (ToMe, Bolya et al. 2023, section 3). None: one each. An earlier plan's sizes are carried on by
                `plan.merge(sizes.unsqueeze(-1), mode="sum")`.

        Raises:
            ValueError: `x` or `sizes` has the wrong shape or dtype, `mode` is unknown, or sizes are given to a sum.
        """
        self._check_merge(x, mode, sizes)
        if self.kept == self.tokens:
            return x
        rows = x.reshape(-1, x.shape[2])
        if mode == "sum":
            merged = sum_segments(rows, self.order, self.starts)
        elif sizes is None:
            merged = mean_segments(rows, self.order, self.starts, self.sizes.flatten())
        else:
            merged = self._weighted_mean(rows, sizes)
        return merged.reshape(self.batch, self.kept, x.shape[2])

    def unmerge(self, y: Tensor) -> Tensor:
        """Return [B, N, C]: each token gets a copy of its slot in `y` [B, M, C], any dtype. Differentiable in `y`.

        Raises:
            ValueError: `y` has the wrong shape.
        """
        self._check_shape("y", y, self.kept)
        if self.kept == self.tokens:
            return y
        return gather_rows(y.reshape(-1, y.shape[2]), self.slots).reshape(self.batch, self.tokens, y.shape[2])

    def expand(self, batch: int) -> "MergePlan":
        """Return this plan for a batch that is laid out as `torch.cat([x] * k)`, `batch` = k * B rows.

        Raises:
            ValueError: `batch` is not a positive multiple of B.
        """
        if batch < 1 or batch % self.batch:
            raise ValueError(f"batch must be a positive multiple of the plan's {self.batch} rows, got {batch}")
        if batch == self.batch:
            return self
        copies = batch // self.batch
        return MergePlan(
            assignment=self.assignment.repeat(copies, 1),
            sizes=self.sizes.repeat(copies, 1),
            order=_tile(self.order, copies, step=self.batch * self.tokens),
            starts=_tile(self.starts, copies, step=self.batch * self.tokens),
            slots=_tile(self.slots, copies, step=self.batch * self.kept),
            representatives=self.representatives.repeat(copies, 1),
        )

    def __repr__(self) -> str:
        return f"MergePlan(batch={self.batch}, tokens={self.tokens}, kept={self.kept})"

    @classmethod
    def _from_assignment(cls, assignment: Tensor, representatives: Tensor, kept: int) -> "MergePlan":
        batch, tokens = assignment.shape
        row = torch.arange(batch, device=assignment.device).unsqueeze(1)
        slots = (assignment + row * kept).flatten()  # rows do not overlap: one sort serves the whole batch
        sorted_slots, order = slots.sort(stable=True)
        starts = torch.searchsorted(sorted_slots, torch.arange(batch * kept, device=slots.device))
        ends = torch.cat([starts[1:], starts.new_full((1,), batch * tokens)])
        sizes = (ends - starts).reshape(batch, kept).float()
        return cls(assignment, sizes, order, starts, slots, representatives)

    def _weighted_mean(self, rows: Tensor, sizes: Tensor) -> Tensor:
        wide = widen(rows)
        weights = sizes.to(wide.dtype).flatten()
        total = sum_segments(weights.unsqueeze(-1), self.order, self.starts)
        return (sum_segments(wide, self.order, self.starts, weights[self.order]) / total).to(rows.dtype)

    def _check_merge(self, x: Tensor, mode: str, sizes: Tensor | None) -> None:
        self._check_shape("x", x, self.tokens)
        if not x.is_floating_point():
            raise ValueError(f"x must be a floating point tensor, got {x.dtype}")
        if mode not in ("mean", "sum"):
            raise ValueError(f"mode must be 'mean' or 'sum', got {mode!r}")
        if sizes is None:
            return
        if mode == "sum":
            raise ValueError("sizes must be None when mode is 'sum', got a tensor")
        if sizes.shape != self.assignment.shape:
            expected = list(self.assignment.shape)
            raise ValueError(f"sizes must be of shape {expected}, got {list(sizes.shape)}")

    def _check_shape(self, name: str, tensor: Tensor, tokens: int) -> None:
        if tensor.dim() != 3 or tensor.shape[:2] != (self.batch, tokens):
            raise ValueError(f"{name} must be of shape [{self.batch}, {tokens}, C], got {list(tensor.shape)}")


def _move(parts: Sequence[Tensor], rows: Sequence[tuple[MergePlan, int]], length: int, step: int) -> Tensor:
    """Return part i of each of `parts`, all of one length, with its row numbers moved to its new place."""
    places = enumerate(zip(parts, rows, strict=True))
    return torch.cat([part[i * length : (i + 1) * length] + (new - i) * step for new, (part, (_, i)) in places])


def _tile(rows: Tensor, copies: int, step: int) -> Tensor:
    """Return `copies` of the row numbers one after another, each `step` rows further on."""
    offset = torch.arange(copies, device=rows.device) * step
    return (rows + offset.unsqueeze(1)).flatten()
