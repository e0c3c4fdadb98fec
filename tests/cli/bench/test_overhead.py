"""The share of a merged call that goes into merging itself."""

from typing import Any

import pytest
import torch

from tome_core.cli.bench.models import new_call
from tome_core.cli.bench.overhead import overhead
from tome_core.speed import SpeedConfig, apply_speed
from tome_core.speed.layouts import read_layout


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
def test_matching_merging_and_unmerging_are_timed_once_each(demo_model: Any, refresh: int):
    unet = demo_model.unet
    blocks = len(read_layout(unet).blocks_of(1))
    ticks: Any = Ticks()
    share = overhead(unet, SpeedConfig(refresh=refresh), new_call(unet, (64, 64), 2), ticks)
    timed = 1 + 2 * blocks  # one plan serves the level; each block merges and unmerges
    assert share == timed / (2 * timed + 1)


def test_a_timed_call_merges_as_an_untimed_one_does_and_leaves_nothing_behind(demo_model: Any, traces: Any):
    unet, config, outputs, ticks = demo_model.unet, SpeedConfig(parts=("attention", "mlp"), kv_ratio=0.75), [], Ticks()
    call, before = new_call(unet, (64, 64), 2), traces(unet)
    overhead(unet, config, lambda: outputs.append(call()), ticks)  # type: ignore[arg-type]
    assert traces(unet) == before
    with apply_speed(unet, config):
        outputs.append(call())
    assert torch.equal(*outputs)
    assert not torch.equal(outputs[0], call())
