"""The merge that costs nothing."""

import pytest
import torch

from tome_core.cli.bench.ceiling import free_matcher
from tome_core.merging import bipartite_soft_matching_2d


@pytest.mark.parametrize(("tokens", "r"), [(64, 32), (64, 48), (35, 17), (35, 26), (9, 0)])
def test_a_free_plan_unmerges_what_it_merged_of_equal_neighbours(tokens, r):
    plan = free_matcher((1, 4))(torch.zeros(2, tokens, 3), 1, tokens, r)
    assert (plan.batch, plan.tokens, plan.kept) == (2, tokens, tokens - r)
    assert plan.sizes.sum(dim=1).tolist() == [tokens] * 2
    x = torch.randn(2, plan.kept, 5, generator=torch.Generator().manual_seed(0)).gather(
        1, plan.assignment.unsqueeze(2).expand(-1, -1, 5)
    )
    assert torch.equal(plan.unmerge(plan.merge(x)), x)


@pytest.mark.parametrize(("grid", "stride", "most"), [((8, 8), (2, 2), 48), ((9, 7), (2, 2), 51), ((3, 3), (4, 4), 0)])
def test_a_ceiling_merges_no_more_than_a_matching_of_that_stride_could(grid, stride, most):
    height, width = grid
    plan = free_matcher(stride)(torch.zeros(1, height * width, 3), height, width, height * width - 1)
    real = bipartite_soft_matching_2d(torch.randn(1, height * width, 3), height, width, height * width, stride=stride)
    assert plan.tokens - plan.kept == real.tokens - real.kept == most
