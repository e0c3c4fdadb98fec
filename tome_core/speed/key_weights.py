"""What the keys of self-attention are, where they are others than its queries or stand for several tokens each."""

from torch import Tensor

from ..merging import MergePlan
from .level_report import Grid


def log_sizes(plan: MergePlan, x: Tensor) -> Tensor:
    """Return what is added to the logits of merged keys [B, 1, M]: the logarithms of their sizes, in the dtype of `x`.

    Proportional attention (Bolya et al. 2023, "Token Merging: Your ViT But Faster", section 3, eq. 1).
    """
    return plan.sizes.log().to(x.dtype).unsqueeze(1)


def every_nth(x: Tensor, grid: Grid, factor: int) -> Tensor:
    """Return [B, K, C]: every `factor`-th token of every `factor`-th row of x [B, N, C] on a grid.

    ToDo (Smith et al. 2024, arXiv 2402.13573).
    """
    return x.unflatten(1, grid)[:, ::factor, ::factor].flatten(1, 2)
