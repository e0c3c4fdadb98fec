import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tome_core.checkpoints.family import (
    Family,
    Header,
    check_prediction_type,
    detect_family,
    find_prediction_type,
    read_header,
)
from tome_core.errors import CheckpointError, UnsupportedModelError

UNET = "model.diffusion_model."
STEM = UNET + "input_blocks.0.0.weight"
TO_K = UNET + "input_blocks.{}.1.transformer_blocks.0.attn2.to_k.weight"
LABEL = UNET + "label_emb.0.0.weight"

Shapes = dict[str, tuple[int, ...]]
SD15: Shapes = {STEM: (320, 4, 3, 3), TO_K.format(1): (320, 768)}
SD2: Shapes = {STEM: (320, 4, 3, 3), TO_K.format(1): (320, 1024)}
SDXL: Shapes = {STEM: (320, 4, 3, 3), TO_K.format(4): (640, 2048), LABEL: (1280, 2816)}


def header(shapes: Shapes) -> Header:
    return Header(Path("model.safetensors"), shapes)


@pytest.mark.parametrize(("shapes", "family"), [(SD15, "sd15"), (SD2, "sd2"), (SDXL, "sdxl")])
def test_a_family_is_told_from_a_few_shapes(shapes: Shapes, family: str):
    assert detect_family(header(shapes)) == family


@pytest.mark.parametrize(
    ("shapes", "found"),
    [
        ({**SD15, STEM: (320, 9, 3, 3)}, r"an inpainting model \(9 input channels\)"),
        ({**SDXL, STEM: (320, 9, 3, 3)}, "an inpainting model"),
        ({**SD15, STEM: (320, 8, 3, 3)}, "an image-editing model"),
        ({**SD2, STEM: (320, 5, 3, 3)}, "a depth-to-image model"),
        ({**SD2, STEM: (256, 7, 3, 3)}, "an upscaler"),
        ({**SD15, STEM: (320, 13, 3, 3)}, "a model with 13 input channels"),
        ({STEM: (384, 4, 3, 3), TO_K.format(4): (768, 1280), LABEL: (1536, 2560)}, "an SDXL refiner"),
        ({**SD2, LABEL: (1280, 2048)}, "a U-Net 320 channels wide, 1024 for the text, with added embeddings"),
        ({STEM: (320, 4, 3, 3)}, "a U-Net 320 channels wide, 0 for the text, without added embeddings"),
        ({STEM: (32, 4, 3, 3), TO_K.format(1): (32, 96)}, "a U-Net 32 channels wide, 96 for the text"),
        ({**SDXL, "edm_mean": (4,)}, "a model with an EDM noise schedule"),
        ({UNET + "joint_blocks.0.x_block.attn.qkv.weight": (4608, 1536)}, "a Stable Diffusion 3 model"),
        ({UNET + "double_blocks.0.img_attn.qkv.weight": (9216, 3072)}, "a Flux model"),
        ({"double_blocks.0.img_attn.qkv.weight": (9216, 3072)}, "a Flux model"),
        ({"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": (4, 320)}, "a LoRA"),
        ({"unet.down_blocks.0.attentions.0.to_k.lora_A.weight": (4, 320)}, "a LoRA"),
        ({"control_model.input_blocks.0.0.weight": (320, 4, 3, 3)}, "a ControlNet"),
        ({"first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3)}, "a VAE alone"),
        ({"decoder.conv_in.weight": (512, 4, 3, 3)}, "a VAE alone"),
        ({"down_blocks.0.resnets.0.norm1.weight": (320,)}, "one part of a diffusers folder"),
        ({"text_model.encoder.layers.0.layer_norm1.weight": (768,)}, "a text encoder alone"),
        ({"emb_params": (8, 768)}, "a textual inversion embedding"),
        ({"b": (2,), "a": (1,)}, "2 tensors, the first of them 'a'"),
        ({}, "a file without tensors"),
    ],
)
def test_anything_else_is_named_beside_what_is_supported(shapes: Shapes, found: str):
    with pytest.raises(UnsupportedModelError, match=rf"^model\.safetensors is {found}.*; supported are .* 1\.5, 2\.x"):
        detect_family(header(shapes))


TELLTALE = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"


def write(folder: Path, deviation: float = 0.0, metadata: dict[str, str] | None = None, *surplus: str) -> Path:
    telltale = torch.tensor([-deviation, deviation]).repeat(160)
    path = folder / "model.safetensors"
    save_file({TELLTALE: telltale, **{name: torch.zeros(0) for name in surplus}}, path, metadata=metadata)
    return path


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
def test_a_v_pred_tensor_settles_it(tmp_path: Path, family: Family):
    assert find_prediction_type(read_header(write(tmp_path, 0.0, None, "v_pred")), family) == "v_prediction"


@pytest.mark.parametrize(("said", "meant"), [("v", "v_prediction"), ("epsilon", "epsilon")])
def test_the_files_metadata_settles_it(tmp_path: Path, said: str, meant: str):
    deviation = 0.0 if said == "v" else 0.5  # the weights say the opposite
    path = write(tmp_path, deviation, {"modelspec.prediction_type": said})
    assert find_prediction_type(read_header(path), "sd2") == meant


@pytest.mark.parametrize(
    ("yaml", "meant"),
    [('model:\n  params:\n    parameterization: "v"\n', "v_prediction"), ("model:\n  params:\n", "epsilon")],
)
def test_the_yaml_beside_the_file_settles_it(tmp_path: Path, yaml: str, meant: str):
    path = write(tmp_path, 0.0 if meant == "v_prediction" else 0.5)
    path.with_suffix(".yaml").write_text(yaml)
    assert find_prediction_type(read_header(path), "sd2") == meant


@pytest.mark.parametrize(("deviation", "meant"), [(0.05, "epsilon"), (0.2, "v_prediction")])
def test_a_silent_sd2_file_is_guessed_from_one_weight_and_the_guess_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, deviation: float, meant: str
):
    with caplog.at_level(logging.WARNING):
        assert find_prediction_type(read_header(write(tmp_path, deviation)), "sd2") == meant
    assert f"taken for {meant}" in caplog.text
    assert "--prediction-type in `tome generate`" in caplog.text
    assert "prediction_type in load_pipeline" in caplog.text


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_silent_file_of_another_family_predicts_epsilon_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, family: Family
):
    assert find_prediction_type(read_header(write(tmp_path, 0.2)), family) == "epsilon"
    assert not caplog.text


def test_an_unknown_prediction_type_is_refused():
    with pytest.raises(ValueError, match="prediction_type must be one of epsilon, v_prediction or None, got 'flow'"):
        check_prediction_type("flow")


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    save_file({"a.weight": torch.zeros(5, 7), "scale": torch.zeros(())}, path, metadata={"author": "nobody"})
    return path


def test_a_header_holds_names_shapes_and_metadata(small_file: Path):
    header = read_header(small_file)
    assert header.shapes == {"a.weight": (5, 7), "scale": ()}
    assert header.metadata == {"author": "nobody"}


def test_a_missing_file_is_named_and_nothing_is_promised_to_be_downloaded():
    with pytest.raises(CheckpointError, match=r"runwayml/stable-diffusion-v1-5 does not exist.*nothing is downloaded"):
        read_header(Path("runwayml/stable-diffusion-v1-5"))


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".pth", ".bin", ".CKPT"])
def test_a_pickle_is_refused_unopened_and_says_why(tmp_path: Path, suffix: str):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(CheckpointError, match=r"is a pickle.*run any code.*convert it to \.safetensors"):
        read_header(path)


def test_another_kind_of_file_is_refused(tmp_path: Path):
    path = tmp_path / "model.gguf"
    path.touch()
    with pytest.raises(CheckpointError, match=r"must be a \.safetensors file or a diffusers folder"):
        read_header(path)


@pytest.mark.parametrize("kept", [0, 4, 60, -1])
def test_a_truncated_file_is_refused(small_file: Path, kept: int):
    small_file.write_bytes(small_file.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        read_header(small_file)


def test_a_pickle_that_calls_itself_safetensors_is_refused(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    torch.save({"weight": torch.zeros(5)}, path)
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        read_header(path)
