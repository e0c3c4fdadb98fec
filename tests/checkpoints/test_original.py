import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from tests.tools.random_checkpoints import narrow_configs
from tome_core.checkpoints import load_original, to_original_layout
from tome_core.checkpoints.configuration import original_shapes
from tome_core.checkpoints.family import Family
from tome_core.checkpoints.layout import unet_names, vae_names
from tome_core.errors import CheckpointError

FAMILIES: list[Family] = ["sd15", "sd2", "sdxl"]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_of_the_denoiser_and_the_autoencoder_is_the_files(
    narrow_file: Callable[[Family], Path], narrow_pipeline: Callable[[Family], Any], family: Family
):
    pipeline, weights = narrow_pipeline(family), load_file(narrow_file(family))
    unet, vae = pipeline.unet.state_dict(), pipeline.vae.state_dict()
    for name, original in {**unet_names(unet, 2), **vae_names(vae, 4)}.items():
        assert torch.equal({**unet, **vae}[name], weights[original]), name


def test_queries_keys_and_values_are_cut_from_open_clips_stack_in_this_order(
    narrow_file: Callable[[Family], Path], narrow_pipeline: Callable[[Family], Any]
):
    encoder, weights = narrow_pipeline("sd2").text_encoder, load_file(narrow_file("sd2"))
    for layer in (0, 2):
        attention = getattr(encoder, "text_model", encoder).encoder.layers[layer].self_attn
        parts = [attention.q_proj, attention.k_proj, attention.v_proj]
        stem = f"cond_stage_model.model.transformer.resblocks.{layer}.attn.in_proj_"
        assert torch.equal(torch.cat([part.weight for part in parts]), weights[stem + "weight"])
        assert torch.equal(torch.cat([part.bias for part in parts]), weights[stem + "bias"])


def test_open_clips_projection_is_turned_over(
    narrow_file: Callable[[Family], Path], narrow_pipeline: Callable[[Family], Any]
):
    projection = load_file(narrow_file("sdxl"))["conditioner.embedders.1.model.text_projection"]
    assert torch.equal(narrow_pipeline("sdxl").text_encoder_2.text_projection.weight, projection.T)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_weight_is_left_without_memory(narrow_pipeline: Callable[[Family], Any], family: Family):
    models = [part for part in narrow_pipeline(family).components.values() if isinstance(part, torch.nn.Module)]
    assert len(models) == (4 if family == "sdxl" else 3)
    assert not [name for model in models for name, weight in model.state_dict().items() if weight.is_meta]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_opened_pipeline_makes_a_picture(narrow_pipeline: Callable[[Family], Any], family: Family):
    pipeline = narrow_pipeline(family)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    image = pipeline("a red cat!", num_inference_steps=2, height=64, width=64, generator=generator, output_type="np")
    assert image.images.shape == (1, 64, 64, 3)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pipeline_has_neither_safety_checker_nor_watermark(narrow_pipeline: Callable[[Family], Any], family: Family):
    pipeline = narrow_pipeline(family)
    assert getattr(pipeline, "safety_checker", None) is None
    assert getattr(pipeline, "watermark", None) is None
    assert not pipeline.unet.training


@pytest.mark.parametrize(("family", "pads"), [("sd15", [49407]), ("sd2", [0]), ("sdxl", [49407, 0])])
def test_each_text_encoder_gets_the_tokenizer_it_was_taught_with(
    narrow_pipeline: Callable[[Family], Any], family: Family, pads: list[int]
):
    names = ["tokenizer", "tokenizer_2"][: len(pads)]
    assert [getattr(narrow_pipeline(family), name).pad_token_id for name in names] == pads


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_come_in_the_type_that_is_asked_for(narrow_file: Callable[[Family], Path], dtype: torch.dtype):
    pipeline: Any = load_original(narrow_file("sd15"), narrow_configs("sd15"), dtype=dtype)
    models = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
    assert {weight.dtype for model in models for weight in model.parameters()} == {dtype}


def test_a_file_of_another_width_is_refused_before_any_weight_is_read(
    narrow_file: Callable[[Family], Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tome_core.checkpoints.original._convert", lambda *_: pytest.fail("weights were read"))
    configs = narrow_configs("sd15")
    configs["unet"]["cross_attention_dim"] = 64
    with pytest.raises(CheckpointError, match=r"attn2\.to_k\.weight in shape"):
        load_original(narrow_file("sd15"), configs)


def test_opening_draws_no_random_number(narrow_file: Callable[[Family], Path]):
    before = torch.get_rng_state()
    load_original(narrow_file("sd15"), narrow_configs("sd15"))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_scheduler_without_a_name_is_ddim(narrow_file: Callable[[Family], Path]):
    configs = narrow_configs("sd15")
    configs["scheduler"] = {"prediction_type": "v_prediction", "clip_sample": False, "steps_offset": 1}
    scheduler = load_original(narrow_file("sd15"), configs).scheduler
    assert type(scheduler).__name__ == "DDIMScheduler"
    assert scheduler.config.prediction_type == "v_prediction"


def test_opening_leaves_the_libraries_as_talkative_as_before(narrow_file: Callable[[Family], Path]):
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.set_verbosity_info()
    transformers_logging.set_verbosity_info()
    try:
        load_original(narrow_file("sd15"), narrow_configs("sd15"))
        assert diffusers_logging.get_verbosity() == transformers_logging.get_verbosity() == diffusers_logging.INFO
    finally:
        diffusers_logging.set_verbosity_warning()
        transformers_logging.set_verbosity_warning()


# Its own process: the hub's client reads HF_HUB_OFFLINE once, and this suite sets it.
OPEN_WITH_THE_HUB_ONLINE = """
import socket, sys
from pathlib import Path

attempts = []


def refuse(*arguments, **_):
    attempts.append(arguments)
    raise OSError("no network")


socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
sys.path.insert(0, sys.argv[1])
from huggingface_hub import constants
from tests.tools.random_checkpoints import narrow_configs
from tome_core.checkpoints import load_original, load_pipeline

assert not constants.HF_HUB_OFFLINE
for family in ("sd15", "sd2", "sdxl"):
    pipeline = load_original(Path(sys.argv[2]) / f"{family}.safetensors", narrow_configs(family))
pipeline.save_pretrained(sys.argv[3])
load_pipeline(sys.argv[3])
assert not attempts, attempts
print("opened")
"""


def test_nothing_is_fetched_with_the_hub_online_and_sockets_blocked(
    narrow_file: Callable[[Family], Path], tmp_path: Path
):
    (folder,) = {narrow_file(family).parent for family in FAMILIES}
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    environment["HF_HOME"] = str(tmp_path / "empty")
    command = [sys.executable, "-c", OPEN_WITH_THE_HUB_ONLINE, str(ROOT), str(folder), str(tmp_path / "saved")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "opened", done.stderr


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
