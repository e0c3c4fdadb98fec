import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DModel
from torch import nn

from tome_core.errors import UnsupportedModelError
from tome_core.speed.diffusers_layout import find_family, find_levels, find_unet, first_transformer


@pytest.mark.parametrize(
    ("shape", "levels"),
    [
        ("sd15", [(1, 1, 3), (2, 2, 3), (3, 4, 3), (4, 8, 1)]),
        ("sd2", [(1, 1, 3), (2, 2, 3), (3, 4, 3), (4, 8, 1)]),
        ("sdxl", [(1, 2, 6), (2, 4, 12)]),  # SDXL has no attention on the latent's own grid
    ],
)
def test_levels_are_counted_from_the_finest_that_has_transformer_blocks(new_unet, shape, levels):
    found = find_levels(new_unet(shape))
    assert [(level.number, level.downsample, len(level.blocks)) for level in found] == levels


@pytest.mark.parametrize("shape", ["sd15", "sd2", "sdxl"])
def test_the_downsampling_found_is_the_one_that_the_model_does(new_unet, new_inputs, shape):
    unet = new_unet(shape)
    sizes = {}
    for level in find_levels(unet):
        for transformer in level.transformers:
            transformer.register_forward_pre_hook(
                lambda module, args, level=level: sizes.setdefault(level.downsample, set()).add(args[0].shape[2:])
            )
    unet(**new_inputs(size=(32, 16)))
    assert sizes == {downsample: {(32 // downsample, 16 // downsample)} for downsample in sizes}
    assert len(sizes) == len(find_levels(unet))


@pytest.mark.parametrize(
    ("shape", "text_width", "family"), [("sd15", 768, "sd1"), ("sd2", 1024, "sd2"), ("sdxl", 2048, "sdxl")]
)
def test_the_family_is_told_from_the_finest_level_and_the_width_of_the_text(new_unet, shape, text_width, family):
    assert find_family(new_unet(shape, cross_attention_dim=text_width)) == family


def test_a_level_without_transformer_blocks_is_not_counted(new_unet):
    unet = new_unet(
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"),
    )
    assert [(level.number, level.downsample) for level in find_levels(unet)] == [(1, 1), (2, 4), (3, 8)]


def test_the_first_transformer_is_the_one_that_runs_first(new_unet, new_inputs):
    unet, ran = new_unet(), []
    for level in find_levels(unet):
        for transformer in level.transformers:
            transformer.register_forward_pre_hook(lambda module, args: ran.append(module))
    unet(**new_inputs())
    assert first_transformer(unet) is ran[0]


def test_a_controlnet_has_levels_too(new_unet):
    controlnet = ControlNetModel.from_unet(new_unet(), conditioning_embedding_out_channels=(8, 8))
    assert [(level.number, level.downsample) for level in find_levels(controlnet)] == [(1, 1), (2, 2), (3, 4), (4, 8)]


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
        find_levels(unet)


def test_a_pipelines_unet_is_found():
    pipeline = type("Pipeline", (), {"unet": UNet2DModel(block_out_channels=(32, 64, 64, 64))})()
    assert find_unet(pipeline) is pipeline.unet


def test_a_model_that_is_no_unet_is_named():
    with pytest.raises(UnsupportedModelError, match=r"model must be a UNet .*SDXL.*, got Linear"):
        find_unet(nn.Linear(2, 2))
    with pytest.raises(UnsupportedModelError, match="got AutoencoderKL"):
        find_unet(AutoencoderKL())


def test_a_pipeline_with_another_kind_of_denoiser_is_named_with_it():
    pipeline = type("FluxPipeline", (), {"transformer": torch.nn.Identity()})()
    with pytest.raises(UnsupportedModelError, match="got FluxPipeline with a transformer Identity"):
        find_unet(pipeline)


def test_a_unet_without_transformer_blocks_is_named_with_the_blocks_it_has():
    unet = UNet2DModel(block_out_channels=(32, 64, 64, 64))
    with pytest.raises(UnsupportedModelError, match=r"got UNet2DModel of AttnDownBlock2D, .*UNetMidBlock2D"):
        find_levels(unet)
