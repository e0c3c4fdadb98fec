"""The merge that costs nothing."""

import pytest
import torch

from tome_core.cli.bench.ceiling import match_for_nothing


@pytest.mark.parametrize(("tokens", "r"), [(64, 32), (64, 48), (35, 17), (35, 26), (9, 0)])
def test_a_free_plan_unmerges_what_it_merged_of_equal_neighbours(tokens, r):
    plan = match_for_nothing(torch.zeros(2, tokens, 3), 1, tokens, r)
    assert (plan.batch, plan.tokens, plan.kept) == (2, tokens, tokens - r)
    assert plan.sizes.sum(dim=1).tolist() == [tokens] * 2
    x = torch.randn(2, plan.kept, 5, generator=torch.Generator().manual_seed(0)).gather(
        1, plan.assignment.unsqueeze(2).expand(-1, -1, 5)
    )
    assert torch.equal(plan.unmerge(plan.merge(x)), x)
