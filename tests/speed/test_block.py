import pytest
import torch

from tome_core.merging import MergePlan, bipartite_soft_matching_2d
from tome_core.speed.block import MergedPart, fits


@pytest.fixture
def plan() -> MergePlan:
    metric = torch.randn(2, 35, 6, generator=torch.Generator().manual_seed(0))
    return bipartite_soft_matching_2d(metric, 5, 7, 17)


def averaging_matrix(plan: MergePlan) -> tuple[torch.Tensor, torch.Tensor]:
    """Return M [B, M, N] and U [B, N, M] of a plan as dense matrices, read off its assignment."""
    copies = torch.nn.functional.one_hot(plan.assignment, plan.kept).double()
    return copies.transpose(1, 2) / copies.sum(1).unsqueeze(2), copies


def test_a_part_gets_the_mean_of_each_slot_and_each_token_gets_its_slots_result(plan):
    x = torch.randn(2, 35, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    merge, unmerge = averaging_matrix(plan)
    part = MergedPart()
    got = part.leave(part.enter(x, plan).tanh())
    torch.testing.assert_close(got, unmerge @ (merge @ x).tanh())


def test_what_a_part_that_was_skipped_returns_is_left_alone(plan):
    part = MergedPart()
    part.enter(torch.randn(2, 35, 4), plan)  # as if the part had raised here
    part.skip()
    y = torch.randn(2, 35, 4)
    assert part.leave(y) is y


def test_a_plan_serves_one_call_only(plan):
    part = MergedPart()
    part.leave(part.enter(torch.randn(2, 35, 4), plan))
    y = torch.randn(2, 35, 4)
    assert part.leave(y) is y


@pytest.mark.parametrize("shape", [(1, 35, 4), (2, 17, 4), (2, 36, 4), (2, 4, 5, 7)])
def test_a_slice_of_the_tokens_does_not_fit_the_plan(plan, shape):
    assert fits(plan, torch.zeros(2, 35, 4))
    assert not fits(plan, torch.zeros(shape))
