"""What merging saves, counted and not timed: multiply-adds and memory of a level's blocks."""

from dataclasses import dataclass
from typing import Any, Protocol

from .level_report import Grid


@dataclass(frozen=True)
class Cost:
    """What one row of a level takes in one model call.

    Attributes:
        flops: twice the multiply-adds of all its blocks, as PyTorch counts them: products of matrices and attention.
            Matching is not in it.
        activation_bytes: what all its blocks' linear layers, norms and other innermost layers put out, added up. It is
            what training keeps and what inference writes, not what it holds at one time.
        score_bytes: the matrix of self-attention scores [heads, queries, keys] of one block, which is held only where
            attention is not fused.
    """

    flops: int
    activation_bytes: int
    score_bytes: int


@dataclass(frozen=True)
class Saving:
    """The cost of one row of a level untouched, and as it ran."""

    untouched: Cost
    merged: Cost

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able values: each figure of `Cost`, untouched and merged."""
        return {"untouched": dict(vars(self.untouched)), "merged": dict(vars(self.merged))}

    def __str__(self) -> str:
        before, after = self.untouched, self.merged
        return (
            f"{(before.flops - after.flops) / 1e9:.3g} of {before.flops / 1e9:.3g} GFLOP saved a row, "
            f"{_mebibytes(before.activation_bytes - after.activation_bytes)} of activations, "
            f"{_mebibytes(before.score_bytes - after.score_bytes)} of attention scores where attention is not fused"
        )


class Costs(Protocol):
    """Counts the costs of a model's levels."""

    def saving(self, level: int, grid: Grid, kept: dict[str, int]) -> Saving | None:
        """Return what a level saves on a grid whose parts kept so many tokens; None if that cannot be counted."""
        ...


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.3g} MiB"
