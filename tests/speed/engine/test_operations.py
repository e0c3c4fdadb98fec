"""How many operations merging adds to a model, each level counted by itself: launches are what eats a small gain."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tome_core.speed import SpeedConfig, apply_speed
from tome_core.speed.layouts import read_layout
from tome_core.speed.plans.run import ModelCall

APART = ("attention", "cross_attention", "mlp")


class Operations(TorchDispatchMode):
    """Counts the operations that are dispatched, views left out."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not (func.is_view or func is torch.ops.aten._unsafe_view.default)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def operations(monkeypatch) -> Callable[..., int]:
    """Return a function to the operations of a model call whose plans are there already."""
    plans, new = {}, ModelCall._new

    def kept(self: ModelCall, key: Any, rows: Any = None) -> Any:
        if key not in plans:
            plans[key] = new(self, key, rows)
        return plans[key]

    def count(unet, inputs: dict[str, Any], config: SpeedConfig) -> int:
        plans.clear()
        with apply_speed(unet, config) as handle:
            unet(**inputs)
            with Operations() as counted:
                unet(**inputs)
            assert config.is_neutral or handle.report.merged_calls == 2
        return counted.count

    monkeypatch.setattr(ModelCall, "_new", kept)
    return count


def added_by_level(operations, unet, inputs, **settings: Any) -> dict[int, float]:
    """Return the operations that merging one level adds, for each block of it."""
    layout, untouched = read_layout(unet), operations(unet, inputs, SpeedConfig(ratio=0))
    return {
        level.number: (
            operations(unet, inputs, SpeedConfig(metric="latent", levels=level.number, **settings)) - untouched
        )
        / len(layout.blocks_of(level.number))
        for level in layout.levels
    }


@pytest.mark.parametrize("shape", ["sd15", "sdxl"])
@pytest.mark.parametrize(("parts", "most"), [("block", 6), (APART, 16), ("attention", 6)])
def test_merging_takes_few_operations_a_block_at_every_level(new_unet, new_inputs, operations, shape, parts, most):
    added = added_by_level(operations, new_unet(shape), new_inputs(), parts=parts)
    assert len(added) == {"sd15": 4, "sdxl": 2}[shape]
    assert all(0 < number <= most for number in added.values()), added


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("parts", "most"), [("block", 8), (APART, 16)])
def test_half_types_take_a_few_more_on_a_cpu_where_the_mean_is_made_in_float32(
    new_unet, new_inputs, operations, dtype, parts, most
):
    added = added_by_level(operations, new_unet().to(dtype), new_inputs(dtype=dtype), parts=parts)
    assert all(0 < number <= most for number in added.values()), added


def test_a_stack_takes_as_many_as_a_block_but_once(new_unet, new_inputs, operations):
    unet, inputs = new_unet("sdxl"), new_inputs()
    block = added_by_level(operations, unet, inputs, parts="block")
    stack = added_by_level(operations, unet, inputs, parts="stack")
    layout = read_layout(unet)
    for level in layout.levels:
        of_stacks = stack[level.number] * len(layout.blocks_of(level.number))
        assert of_stacks == block[level.number] * len(layout.stacks_of(level.number))


def test_levels_that_are_not_chosen_cost_nothing(new_unet, new_inputs, operations):
    unet, inputs = new_unet(), new_inputs()
    one = operations(unet, inputs, SpeedConfig(metric="latent", levels=1))
    other = operations(unet, inputs, SpeedConfig(metric="latent", levels=3))
    both = operations(unet, inputs, SpeedConfig(metric="latent", levels=(1, 3)))
    assert both == one + other - operations(unet, inputs, SpeedConfig(ratio=0))
