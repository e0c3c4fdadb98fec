import math

import pytest

from tome_core.checkpoints.configuration import empty_models, original_shapes, read_configs
from tome_core.checkpoints.family import Family
from tome_core.checkpoints.layout import clip_names, open_clip_names, unet_names, vae_names

# Parameters of the published models.
UNETS = {"sd15": 859_520_964, "sd2": 865_910_724, "sdxl": 2_567_463_684}
VAE = 83_653_863
TEXT = {"sd15": [123_060_480], "sd2": [340_387_840], "sdxl": [123_060_480, 694_659_840]}


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
def test_every_weight_of_a_published_size_has_a_name_of_its_own(family: Family):
    sizes = {
        part: sum(math.prod(shape) for shape in shapes.values())
        for part, shapes in original_shapes(read_configs(family)).items()
    }
    texts = [size for part, size in sizes.items() if part.startswith("text_encoder")]
    assert (sizes["unet"], sizes["vae"], texts) == (UNETS[family], VAE, TEXT[family])


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("conv_in.weight", "input_blocks.0.0.weight"),
        ("time_embedding.linear_2.bias", "time_embed.2.bias"),
        ("down_blocks.0.resnets.1.time_emb_proj.weight", "input_blocks.2.0.emb_layers.1.weight"),
        (
            "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight",
            "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight",
        ),
        ("down_blocks.2.downsamplers.0.conv.weight", "input_blocks.9.0.op.weight"),
        ("mid_block.resnets.1.norm2.weight", "middle_block.2.out_layers.0.weight"),
        ("mid_block.attentions.0.norm.weight", "middle_block.1.norm.weight"),
        ("up_blocks.0.resnets.2.conv_shortcut.weight", "output_blocks.2.0.skip_connection.weight"),
        ("up_blocks.0.upsamplers.0.conv.weight", "output_blocks.2.1.conv.weight"),
        ("up_blocks.1.upsamplers.0.conv.weight", "output_blocks.5.2.conv.weight"),
        ("up_blocks.3.attentions.2.proj_out.weight", "output_blocks.11.1.proj_out.weight"),
        ("conv_norm_out.weight", "out.0.weight"),
    ],
)
def test_a_denoisers_weight_is_found_where_published_files_have_it(name: str, original: str):
    names = unet_names(empty_models(read_configs("sd15"))["unet"].state_dict(), layers_per_block=2)
    assert names[name] == f"model.diffusion_model.{original}"


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("encoder.down_blocks.1.resnets.0.conv_shortcut.weight", "encoder.down.1.block.0.nin_shortcut.weight"),
        ("encoder.down_blocks.2.downsamplers.0.conv.bias", "encoder.down.2.downsample.conv.bias"),
        ("decoder.up_blocks.0.resnets.2.norm1.weight", "decoder.up.3.block.2.norm1.weight"),
        ("decoder.up_blocks.2.upsamplers.0.conv.weight", "decoder.up.1.upsample.conv.weight"),
        ("decoder.mid_block.attentions.0.group_norm.weight", "decoder.mid.attn_1.norm.weight"),
        ("decoder.mid_block.attentions.0.to_q.weight", "decoder.mid.attn_1.q.weight"),
        ("decoder.mid_block.attentions.0.to_out.0.bias", "decoder.mid.attn_1.proj_out.bias"),
        ("encoder.mid_block.resnets.1.conv2.weight", "encoder.mid.block_2.conv2.weight"),
        ("encoder.conv_norm_out.bias", "encoder.norm_out.bias"),
        ("post_quant_conv.weight", "post_quant_conv.weight"),
    ],
)
def test_an_autoencoders_weight_is_found_where_published_files_have_it(name: str, original: str):
    names = vae_names(empty_models(read_configs("sd15"))["vae"].state_dict(), levels=4)
    assert names[name] == f"first_stage_model.{original}"


@pytest.mark.parametrize("wrapper", ["", "text_model."])
def test_a_text_encoders_name_is_the_same_whichever_transformers_release_named_it(wrapper: str):
    names = clip_names([wrapper + "encoder.layers.0.mlp.fc1.weight"])
    assert list(names.values()) == ["cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight"]


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("embeddings.token_embedding.weight", "token_embedding.weight"),
        ("embeddings.position_embedding.weight", "positional_embedding"),
        ("encoder.layers.5.self_attn.v_proj.bias", "transformer.resblocks.5.attn.in_proj_bias"),
        ("encoder.layers.5.self_attn.out_proj.weight", "transformer.resblocks.5.attn.out_proj.weight"),
        ("encoder.layers.5.layer_norm2.weight", "transformer.resblocks.5.ln_2.weight"),
        ("encoder.layers.5.mlp.fc2.weight", "transformer.resblocks.5.mlp.c_proj.weight"),
        ("final_layer_norm.weight", "ln_final.weight"),
        ("text_projection.weight", "text_projection"),
    ],
)
def test_an_open_clip_weight_is_found_where_published_files_have_it(name: str, original: str):
    assert open_clip_names([name], "p.") == {name: f"p.{original}"}
