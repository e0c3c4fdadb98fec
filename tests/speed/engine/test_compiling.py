"""Merging in a model that torch.compile has compiled: the same images, one graph, and few recompilations."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor

from tome_core.speed import SpeedConfig, apply_speed
from tome_core.unet_walk import uncompiled

_ONE_BLOCK = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (8,),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",),
    "mid_block_type": None,
    "cross_attention_dim": 8,
    "attention_head_dim": 2,
}


@pytest.fixture
def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(**_ONE_BLOCK).eval().requires_grad_(False)  # type: ignore[arg-type]


class Graphs:
    """A backend that runs each graph as it is, and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        self.count += 1
        return graph.forward


@pytest.fixture
def graphs() -> Iterator[Graphs]:
    torch.compiler.reset()
    yield Graphs()
    torch.compiler.reset()


def sample(unet, timesteps: list[int], size: tuple[int, int] = (8, 8)) -> Tensor:
    """Return the last output of a run: two images with two texts each."""
    random = torch.Generator().manual_seed(1)
    x, text = torch.randn(2, 4, *size, generator=random), torch.randn(4, 7, 8, generator=random)
    for timestep in timesteps:
        output = unet(torch.cat([x, x]), torch.tensor(timestep), text).sample
        x = x - 0.1 * (3 * output[2:] - 2 * output[:2])
    return output


RUN = [600, 560, 520, 480, 440, 400]


def eager(unet, config: SpeedConfig, **settings: Any) -> Tensor:
    with apply_speed(unet, config):
        return sample(unet, RUN, **settings)


@pytest.mark.parametrize(
    ("when", "wraps"),
    [("before", False), ("before", True), ("after", False)],
    ids=["model.compile before", "torch.compile before", "model.compile after"],
)
def test_every_way_of_compiling_gives_the_merged_image_in_one_graph(unet, graphs, when, wraps):
    config = SpeedConfig(metric="estimate", refresh=3)
    expected, untouched, model = eager(unet, config), sample(unet, RUN), unet

    def compiled():
        return torch.compile(unet, backend=graphs) if wraps else unet.compile(backend=graphs) or unet

    if when != "after":
        model = compiled()
        sample(model, RUN[:1])  # what was compiled by then knows of no merging
        graphs.count = 0
    with apply_speed(model, config) as handle:
        model = compiled() if when == "after" else model
        assert torch.equal(sample(model, RUN), expected)
        assert (graphs.count, handle.report.merged_calls) == (1, len(RUN))
    assert torch.equal(sample(model, RUN), untouched)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in unet.modules())


@pytest.mark.parametrize(
    ("settings", "stages"),
    [
        ({"metric": "latent", "refresh": 3, "parts": "block", "proportional": True, "start_percent": 0.5}, 2),
        ({"metric": "latent", "seed": 3, "kv_ratio": 0.75, "parts": ("attention", "mlp"), "end_percent": 0.5}, 2),
        ({"metric": "latent", "matching": "window", "kv_downsample": 2, "refresh": 2}, 1),
    ],
)
def test_a_run_recompiles_once_less_than_it_has_stages(unet, graphs, settings, stages):
    config = SpeedConfig(**settings)
    expected = eager(unet, config)
    with apply_speed(unet, config) as handle:
        unet.compile(backend=graphs)
        for _ in range(2):
            assert torch.equal(sample(unet, RUN), expected)
            assert graphs.count == stages
    assert handle.report.merged_calls > 0
    assert handle.report.levels[0].kept


def test_another_size_is_compiled_anew_and_its_odd_grid_is_known_ahead(unet, graphs):
    config = SpeedConfig(metric="latent")
    expected = eager(unet, config, size=(7, 5))
    with apply_speed(unet, config):
        unet.compile(backend=graphs, dynamic=False)
        sample(unet, RUN[:1])
        assert torch.equal(sample(unet, RUN, size=(7, 5)), expected)
    assert graphs.count == 2


def test_blocks_that_are_compiled_one_by_one_get_plans_from_outside(unet, graphs, blocks):
    config = SpeedConfig(metric="latent", refresh=3)
    expected = eager(unet, config)
    with apply_speed(unet, config):
        unet.compile_repeated_blocks(backend=graphs)
        assert torch.equal(sample(unet, RUN), expected)
    assert 1 <= graphs.count <= len(blocks(unet, 1))


def test_metric_block_gives_way_to_the_estimate_and_the_report_says_so(unet, graphs):
    pipe = type("Pipeline", (), {"unet": unet, "scheduler": DDIMScheduler()})()
    with apply_speed(pipe, SpeedConfig(metric="estimate")):
        expected = sample(unet, RUN)
    with apply_speed(pipe, SpeedConfig(metric="block")) as handle:
        unet.compile(backend=graphs)
        assert torch.equal(sample(unet, RUN), expected)
    assert graphs.count == 1
    assert handle.report.metric == "estimate"
    assert handle.report.notes == ["metric block is inside the compiled model: estimate is used instead"]


def test_a_level_of_few_tokens_stays_out_of_the_one_graph(unet, graphs):
    untouched = sample(unet, RUN[:2])
    with apply_speed(unet, SpeedConfig(metric="latent", min_tokens=65)) as handle:
        unet.compile(backend=graphs)
        assert torch.equal(sample(unet, RUN[:2]), untouched)
    assert (graphs.count, handle.report.untouched_calls, len(handle.report.notes)) == (1, 2, 1)


def test_fullgraph_is_refused_with_a_sentence(unet, graphs):
    with apply_speed(unet, SpeedConfig(metric="latent")):
        unet.compile(backend=graphs, fullgraph=True)
        with pytest.raises(Exception, match="compile the model without fullgraph=True"):
            sample(unet, RUN)


def test_a_model_that_is_not_compiled_leaves_other_compiled_calls_alone(unet, graphs):
    other = torch.compile(lambda x: x + 1, backend=graphs)
    other(torch.ones(3))
    with apply_speed(unet):
        sample(unet, RUN[:1])
    other(torch.ones(3))
    assert graphs.count == 1


def test_a_wrapped_model_is_found_in_a_pipeline(unet, graphs):
    wrapped = torch.compile(unet, backend=graphs)
    assert uncompiled(wrapped) is unet
    pipe = type("Pipeline", (), {"unet": wrapped})()
    with apply_speed(pipe) as handle:
        assert handle.report.model == "UNet2DConditionModel"
        assert unet._forward_pre_hooks
