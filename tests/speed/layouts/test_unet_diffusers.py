"""Where diffusers' UNets can merge, found by a walk."""

import pytest
import torch
from diffusers import ControlNetModel, UNet2DModel
from diffusers.models import attention_processor
from torch import nn

from tome_core.errors import UnsupportedModelError
from tome_core.speed.layouts import read_layout
from tome_core.speed.layouts.unet_diffusers import is_plain_processor


@pytest.mark.parametrize(
    ("shape", "levels"),
    [
        ("sd15", [(1, 1, 3), (2, 2, 3), (3, 4, 3), (4, 8, 1)]),
        ("sd2", [(1, 1, 3), (2, 2, 3), (3, 4, 3), (4, 8, 1)]),
        ("sdxl", [(1, 2, 6), (2, 4, 12)]),  # SDXL has no attention on the latent's own grid
    ],
)
def test_levels_are_counted_from_the_finest_that_has_transformer_blocks(new_unet, shape, levels):
    layout = read_layout(new_unet(shape))
    assert [(x.number, x.downsample, len(layout.blocks_of(x.number))) for x in layout.levels] == levels


def test_paths_name_blocks_and_their_parts_in_the_order_in_which_they_run(new_unet, new_inputs):
    unet, ran = new_unet("sdxl"), []
    layout = read_layout(unet)
    paths = [path for stack in layout.stacks for block in stack.blocks for path in paths_of(block)]
    for path in paths:
        unet.get_submodule(path).register_forward_pre_hook(lambda module, args, path=path: ran.append(path))
    unet(**new_inputs())
    assert ran == paths
    assert paths[:4] == [
        f"down_blocks.1.attentions.0.transformer_blocks.0{name}" for name in ("", ".attn1", ".attn2", ".ff")
    ]
    kinds = [part.kind for part in layout.stacks[0].blocks[0].parts]
    assert kinds == ["attention", "cross_attention", "mlp"]


def paths_of(block) -> list[str]:
    return [block.path, *(part.path for part in block.parts)]


@pytest.mark.parametrize("size", [(32, 16), (18, 9)])
@pytest.mark.parametrize("shape", ["sd15", "sdxl"])
def test_the_grid_of_a_level_is_the_one_that_the_model_has(new_unet, new_inputs, shape, size):
    unet, seen = new_unet(shape), {}
    layout = read_layout(unet)
    for stack in layout.stacks:

        def look(module, args, kwargs, stack=stack):
            seen.setdefault(stack.level, set()).update({args[0].shape[2:], stack.grid(args, kwargs)})

        unet.get_submodule(stack.path).register_forward_pre_hook(look, with_kwargs=True)
    unet(**new_inputs(size=size))
    assert seen == {level.number: {level.grid(*size)} for level in layout.levels}


@pytest.mark.parametrize(
    ("shape", "text_width", "family"),
    [("sd15", 768, "sd1"), ("sd2", 1024, "sd2"), ("sdxl", 2048, "sdxl"), ("sdxl", 1280, "sdxl_refiner")],
)
def test_the_family_is_read_from_the_finest_level_and_the_width_of_the_text(new_unet, shape, text_width, family):
    assert read_layout(new_unet(shape, cross_attention_dim=text_width)).family == family


def test_a_level_without_transformer_blocks_is_not_counted(new_unet):
    unet = new_unet(
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"),
    )
    assert [(level.number, level.downsample) for level in read_layout(unet).levels] == [(1, 1), (2, 4), (3, 8)]


def test_layouts_of_like_networks_are_equal_and_hold_no_module(new_unet):
    one, other = read_layout(new_unet()), read_layout(new_unet())
    assert one == other
    assert hash(one) == hash(other)
    assert one != read_layout(new_unet("sdxl"))


def test_the_latent_is_as_wide_as_the_output(new_unet):
    assert read_layout(new_unet(in_channels=9)).latent_channels == 4


def test_a_controlnet_has_levels_too(new_unet):
    controlnet = ControlNetModel.from_unet(new_unet(), conditioning_embedding_out_channels=(8, 8))
    levels = [(level.number, level.downsample) for level in read_layout(controlnet).levels]
    assert levels == [(1, 1), (2, 2), (3, 4), (4, 8)]


def test_frames_of_a_video_are_not_tokens_to_merge():
    class BasicTransformerBlock(nn.Module):
        pass

    class AnimateDiffTransformer3D(nn.Module):
        def __init__(self):
            super().__init__()
            self.transformer_blocks = nn.ModuleList([BasicTransformerBlock()])

    unet = nn.Module()
    unet.down_blocks = nn.ModuleList([AnimateDiffTransformer3D()])
    with pytest.raises(UnsupportedModelError):
        read_layout(unet)


def test_a_network_that_is_no_unet_is_named():
    with pytest.raises(UnsupportedModelError, match=r"model must be a UNet .*SDXL.*, got Linear"):
        read_layout(nn.Linear(2, 2))
    with pytest.raises(UnsupportedModelError, match="got Tensor"):
        read_layout(torch.zeros(2))


def test_a_unet_without_transformer_blocks_is_named_with_the_blocks_it_has():
    unet = UNet2DModel(block_out_channels=(32, 64, 64, 64))
    with pytest.raises(UnsupportedModelError, match=r"got UNet2DModel of AttnDownBlock2D, .*UNetMidBlock2D"):
        read_layout(unet)


def test_processors_of_ip_adapter_and_of_other_tools_are_not_plain_and_those_of_diffusers_are():
    own = (attention_processor.AttnProcessor(), attention_processor.AttnProcessor2_0())
    adapter = attention_processor.IPAdapterAttnProcessor2_0(hidden_size=16, cross_attention_dim=16)
    foreign = type("AttnProcessor2_0", (), {"__module__": "other.tool"})()
    assert [is_plain_processor(x) for x in (*own, adapter, foreign)] == [True, True, False, False]
