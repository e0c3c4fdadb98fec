"""In reference mode the grid matching is that of the ToMe-SD authors' own package, tomesd 0.1.3."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tomesd.merge import bipartite_soft_matching_random2d
from torch import Tensor

from tome_core.merging import bipartite_soft_matching_2d


def random_tensor(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def assert_same_as_tomesd(
    metric: Tensor, height: int, width: int, r: int, stride: tuple[int, int], seed: int | None = None
) -> None:
    """Compare which tokens become one, and what comes back from merging and unmerging other features."""
    sy, sx = stride
    draws = [torch.Generator().manual_seed(seed) if seed is not None else None for _ in range(2)]
    plan = bipartite_soft_matching_2d(metric, height, width, r, stride=stride, generator=draws[0])
    merge, unmerge = bipartite_soft_matching_random2d(
        metric, width, height, sx, sy, r, no_rand=seed is None, generator=draws[1]
    )
    x = random_tensor(*metric.shape[:2], 5, seed=99)
    merged = merge(x)
    assert merged.shape == (metric.shape[0], plan.kept, 5)
    slots = torch.arange(plan.kept).expand(metric.shape[0], -1).unsqueeze(-1)
    theirs, ours = unmerge(slots), plan.unmerge(slots)
    assert torch.equal(theirs == theirs.transpose(1, 2), ours == ours.transpose(1, 2))
    torch.testing.assert_close(plan.unmerge(plan.merge(x)), unmerge(merged), rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 0.75, 0.9])
@pytest.mark.parametrize(
    ("height", "width", "stride"),
    [(16, 16, (2, 2)), (5, 7, (2, 2)), (17, 23, (2, 2)), (12, 9, (3, 2)), (8, 16, (4, 2)), (1, 6, (1, 2))],
)
def test_the_map_and_the_unmerged_output_are_those_of_tomesd(
    batch: int, ratio: float, height: int, width: int, stride: tuple[int, int]
):
    metric = random_tensor(batch, height * width, 16, seed=batch)
    assert_same_as_tomesd(metric, height, width, int(height * width * ratio), stride)


grids = st.tuples(st.integers(1, 4), st.integers(1, 4)).flatmap(
    lambda stride: st.tuples(st.integers(stride[0], 14), st.integers(stride[1], 14), st.just(stride))
)


@given(grids, st.integers(1, 3), st.floats(0, 1), st.one_of(st.none(), st.integers(0, 99)))
def test_any_grid_stride_and_drawn_dst_agrees_with_tomesd(
    grid: tuple[int, int, tuple[int, int]], batch: int, ratio: float, seed: int | None
):
    height, width, stride = grid
    metric = random_tensor(batch, height * width, 8, seed=7, dtype=torch.float64)
    assert_same_as_tomesd(metric, height, width, int(height * width * ratio), stride, seed)


def test_the_size_of_stable_diffusion_agrees_with_tomesd():
    assert_same_as_tomesd(random_tensor(2, 4096, 64, seed=0, dtype=torch.float64), 64, 64, 2048, (2, 2))
