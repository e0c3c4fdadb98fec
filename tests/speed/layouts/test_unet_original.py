"""Where UNets in the original layout can merge, as ComfyUI, the Forge family and A1111 have them."""

import pytest
import torch
from torch import nn

from tests.hosts.fake.unet import SpatialTransformer, UNetModel
from tome_core.errors import UnsupportedModelError
from tome_core.speed.layouts import read_layout


def new_unet(*depths: int) -> UNetModel:
    return UNetModel(depths, has_label=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("depths", "levels"),
    [((1, 1, 1), [(1, 1, 2), (2, 2, 3)]), ((0, 2, 3), [(1, 2, 7)]), ((2, 0, 0), [(1, 1, 4)])],
)
def test_levels_are_counted_from_the_finest_that_has_transformer_blocks(depths, levels):
    layout = read_layout(new_unet(*depths))
    assert [(x.number, x.downsample, len(layout.blocks_of(x.number))) for x in layout.levels] == levels


def test_stacks_have_the_names_of_the_host_and_run_in_their_order():
    unet, ran = new_unet(1, 2, 1), []
    layout = read_layout(unet)
    for stack in layout.stacks:
        unet.get_submodule(stack.path).register_forward_pre_hook(lambda module, args, x=stack: ran.append(x.host_block))
    unet(torch.zeros(1, 4, 8, 8), torch.zeros(1), torch.zeros(1, 3, 12), None, {})
    assert ran == [stack.host_block for stack in layout.stacks]
    assert ran == [("input", 1), ("input", 3), ("middle", 0), ("output", 0), ("output", 2)]
    kinds = [part.kind for part in layout.stacks[1].blocks[1].parts]
    assert kinds == ["attention", "cross_attention", "mlp"]
    assert layout.stacks[1].blocks[1].parts[0].path == "input_blocks.3.1.transformer_blocks.1.attn1"


@pytest.mark.parametrize(
    ("depths", "text_width", "family"),
    [
        ((1, 1, 1), 768, "sd1"),
        ((1, 1, 1), 1024, "sd2"),
        ((0, 2, 3), 2048, "sdxl"),
        ((0, 2, 3), 1280, "sdxl_refiner"),
    ],
)
def test_the_family_is_read_from_the_finest_level_and_the_width_of_the_text(depths, text_width, family):
    unet = new_unet(*depths)
    for module in unet.modules():
        if hasattr(module, "attn2"):
            module.attn2.to_k = nn.Linear(text_width, 8)
    assert read_layout(unet).family == family


def test_transformers_of_videos_are_left_alone():
    class SpatialVideoTransformer(SpatialTransformer):
        pass

    unet = new_unet(1, 1, 1)
    unet.middle_block[1] = SpatialVideoTransformer(1)
    assert ("middle", 0) not in [stack.host_block for stack in read_layout(unet).stacks]


def test_a_unet_without_transformer_blocks_is_named():
    with pytest.raises(UnsupportedModelError, match=r"a UNet of SpatialTransformers .*, got UNetModel without any"):
        read_layout(new_unet(0, 0, 0))
