"""The merge that costs nothing, and the share of a merged call that goes into merging itself."""

from typing import Any

import pytest
import torch

from tome_core.bench.speed.denoisers import new_call
from tome_core.bench.speed.merge_cost import free_matcher, overhead
from tome_core.merging import bipartite_soft_matching_2d
from tome_core.speed import SpeedConfig, apply_speed
from tome_core.speed.layouts import read_layout


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


class Ticks:
    """A clock on which nothing takes time but looking at it."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        self.now += 1
        return self.now

    def figure(self, ticks: int) -> int:
        return ticks


@pytest.mark.parametrize("refresh", [1, 4])
def test_matching_merging_and_unmerging_are_timed_once_each(pipeline: Any, refresh: int):
    unet = pipeline.unet
    blocks = len(read_layout(unet).blocks_of(1))
    ticks: Any = Ticks()
    share = overhead(unet, SpeedConfig(refresh=refresh), new_call(unet, (64, 64), 2), ticks)
    timed = 1 + 2 * blocks  # one plan serves the level; each block merges and unmerges
    assert share == timed / (2 * timed + 1)


def test_a_timed_call_merges_as_an_untimed_one_does_and_leaves_nothing_behind(pipeline: Any, traces: Any):
    unet, config, outputs, ticks = pipeline.unet, SpeedConfig(parts=("attention", "mlp"), kv_ratio=0.75), [], Ticks()
    call, before = new_call(unet, (64, 64), 2), traces(unet)
    overhead(unet, config, lambda: outputs.append(call()), ticks)  # type: ignore[arg-type]
    assert traces(unet) == before
    with apply_speed(unet, config):
        outputs.append(call())
    assert torch.equal(*outputs)
    assert not torch.equal(outputs[0], call())
