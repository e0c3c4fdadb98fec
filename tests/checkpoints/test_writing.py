from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from tests.tools.random_checkpoints import narrow_configs
from tome_core.checkpoints import load_original, to_original_layout
from tome_core.checkpoints.completeness import original_shapes

Models = dict[str, Any]


@pytest.fixture(scope="module")
def models() -> Models:
    """A narrow denoiser, autoencoder and text encoder, no two weights equal."""
    generator = torch.Generator().manual_seed(0)
    configs = narrow_configs("sd15")
    models: Models = {
        "unet": UNet2DConditionModel.from_config(configs["unet"]),
        "vae": AutoencoderKL.from_config(configs["vae"]),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**configs["text_encoder"])),
    }
    for model in models.values():
        for parameter in model.parameters():
            parameter.data.normal_(std=0.05, generator=generator)
        model.eval()
    return models


def write(models: Models, dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
    return to_original_layout(models["unet"], models["vae"], models["text_encoder"], dtype=dtype)


@torch.no_grad()
def test_a_model_written_and_opened_computes_the_same_bits(models: Models, tmp_path: Path):
    save_file(write(models), tmp_path / "model.safetensors")
    pipeline: Any = load_original(tmp_path / "model.safetensors", narrow_configs("sd15"))
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(49408, (3, 77), generator=generator)
    latent = torch.randn(3, 4, 10, 14, generator=generator)
    picture = torch.randn(1, 3, 40, 56, generator=generator)
    rows = models["text_encoder"](ids).last_hidden_state
    assert torch.equal(pipeline.text_encoder(ids).last_hidden_state, rows)
    assert torch.equal(pipeline.unet(latent, 7, rows).sample, models["unet"](latent, 7, rows).sample)
    assert torch.equal(pipeline.vae.decode(latent).sample, models["vae"].decode(latent).sample)
    assert torch.equal(pipeline.vae.encode(picture).latent_dist.mean, models["vae"].encode(picture).latent_dist.mean)


def test_every_weight_is_written_once_under_its_original_name(models: Models):
    written = write(models)
    needed = {name for part in original_shapes(narrow_configs("sd15")).values() for name in part}
    assert written.keys() == needed
    assert len(written) == sum(len(model.state_dict()) for model in models.values())


def test_the_autoencoders_attention_is_written_as_1x1_convolutions(models: Models):
    written = write(models)
    assert written["first_stage_model.decoder.mid.attn_1.q.weight"].shape == (32, 32, 1, 1)
    assert written["first_stage_model.decoder.mid.attn_1.norm.weight"].shape == (32,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_are_written_in_the_type_that_is_asked_for(models: Models, dtype: torch.dtype):
    assert {weight.dtype for weight in write(models, dtype).values()} == {dtype}


def test_what_is_written_shares_no_memory_with_the_model(models: Models):
    before = models["unet"].conv_in.weight.detach().clone()
    for weight in write(models).values():
        weight.zero_()
    assert torch.equal(models["unet"].conv_in.weight, before)
