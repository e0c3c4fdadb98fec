import json
import re
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tools.random_checkpoints import file_shapes, write_hollow
from tome_core.checkpoints import load_pipeline
from tome_core.checkpoints.configuration import Configs, read_configs
from tome_core.checkpoints.family import Family
from tome_core.errors import CheckpointError, UnsupportedModelError


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[Configs]:
    """Stand in for the conversion of gigabytes; the configurations that it would have used."""
    seen: list[Configs] = []

    class Pipeline:
        def to(self, device: str) -> "Pipeline":
            return self

    def convert(header: Any, configs: Configs, dtype: Any) -> Pipeline:
        seen.append(configs)
        return Pipeline()

    monkeypatch.setattr("tome_core.checkpoints.original._convert", convert)
    return seen


def hollow(folder: Path, family: Family, metadata: dict[str, str] | None = None) -> Path:
    path = folder / f"{family}.safetensors"
    write_hollow(path, file_shapes(family, read_configs(family)), metadata)
    return path


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
def test_a_file_of_true_size_is_opened_with_its_familys_configurations(
    tmp_path: Path, converted: list[Configs], family: Family
):
    load_pipeline(hollow(tmp_path, family))
    assert converted == [read_configs(family)]


def test_a_v_model_of_sd2_is_opened_for_768_pixels(tmp_path: Path, converted: list[Configs]):
    load_pipeline(hollow(tmp_path, "sd2", {"modelspec.prediction_type": "v"}))
    assert converted[0]["scheduler"]["prediction_type"] == "v_prediction"
    assert converted[0]["unet"]["sample_size"] == 96


def test_the_users_prediction_type_goes_before_the_files(tmp_path: Path, converted: list[Configs]):
    path = hollow(tmp_path, "sd2", {"modelspec.prediction_type": "v"})
    load_pipeline(path, prediction_type="epsilon")
    assert converted[0]["scheduler"]["prediction_type"] == "epsilon"
    assert converted[0]["unet"]["sample_size"] == 64


def test_another_model_is_refused_before_any_weight_is_read(tmp_path: Path, converted: list[Configs]):
    path = tmp_path / "lora.safetensors"
    write_hollow(path, {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (8, 768)})
    with pytest.raises(UnsupportedModelError, match="is a LoRA; supported are"):
        load_pipeline(path)
    assert not converted


def test_an_unknown_prediction_type_is_refused_before_the_path_is_looked_at():
    with pytest.raises(ValueError, match="prediction_type must be one of"):
        load_pipeline("nowhere", prediction_type="flow")


@pytest.fixture(scope="module")
def saved(
    narrow_pipeline: Callable[[Family], Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Family], Path]:
    """Return a function from a family to a narrow diffusers folder."""
    parent = tmp_path_factory.mktemp("saved")

    @cache
    def save(family: Family) -> Path:
        narrow_pipeline(family).save_pretrained(parent / family)
        return parent / family

    return save


@pytest.fixture
def folder(saved: Callable[[Family], Path], tmp_path: Path) -> Path:
    """A narrow SD1.5 folder that a test may break."""
    return Path(shutil.copytree(saved("sd15"), tmp_path / "sd15"))


@pytest.fixture
def xl_folder(saved: Callable[[Family], Path], tmp_path: Path) -> Path:
    """A narrow SDXL folder that a test may break."""
    return Path(shutil.copytree(saved("sdxl"), tmp_path / "sdxl"))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_folder_opens_with_the_weights_that_were_saved(
    saved: Callable[[Family], Path], narrow_pipeline: Callable[[Family], Any], family: Family
):
    pipeline: Any = load_pipeline(saved(family))
    original = narrow_pipeline(family)
    for part in ("unet", "vae", "text_encoder", *(["text_encoder_2"] if family == "sdxl" else [])):
        weights = getattr(original, part).state_dict()
        assert all(torch.equal(weight, weights[name]) for name, weight in getattr(pipeline, part).state_dict().items())


def test_tokenizers_that_the_folder_lacks_are_made(xl_folder: Path):
    shutil.rmtree(xl_folder / "tokenizer")
    shutil.rmtree(xl_folder / "tokenizer_2")
    pipeline: Any = load_pipeline(xl_folder)
    made = [pipeline.tokenizer, pipeline.tokenizer_2]
    assert [tokenizer.pad_token_id for tokenizer in made] == [49407, 0]
    assert all(tokenizer("a red cat").input_ids == [49406, 320, 736, 2368, 49407] for tokenizer in made)


def test_the_fp16_variant_opens_where_there_is_no_other(xl_folder: Path):
    for file in xl_folder.rglob("*.safetensors"):
        file.rename(file.with_suffix(".fp16.safetensors"))
    assert load_pipeline(xl_folder, dtype=torch.bfloat16).unet.dtype == torch.bfloat16


def test_a_folder_with_some_parts_in_fp16_only_opens(folder: Path):
    (file,) = (folder / "unet").glob("*.safetensors")
    file.rename(file.with_suffix(".fp16.safetensors"))
    assert load_pipeline(folder).unet.dtype == torch.float32


def test_weights_cut_into_shards_open(folder: Path, narrow_pipeline: Callable[[Family], Any]):
    pipeline = narrow_pipeline("sd15")
    shutil.rmtree(folder / "unet")
    pipeline.unet.save_pretrained(folder / "unet", max_shard_size="4MB")
    assert len(list((folder / "unet").glob("*.safetensors"))) > 1
    opened: Any = load_pipeline(folder)
    assert torch.equal(opened.unet.conv_in.weight, pipeline.unet.conv_in.weight)


def test_a_safety_checker_is_neither_needed_nor_opened(folder: Path):
    checker = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    edit(folder / "model_index.json", safety_checker=checker, feature_extractor=["transformers", "CLIPImageProcessor"])
    pipeline: Any = load_pipeline(folder)
    assert getattr(pipeline, "safety_checker", None) is None
    assert pipeline.feature_extractor is None


def test_a_prediction_type_overrides_the_folders(folder: Path):
    pipeline: Any = load_pipeline(folder, prediction_type="v_prediction")
    assert pipeline.scheduler.config.prediction_type == "v_prediction"


def test_pickled_weights_are_refused(folder: Path):
    (file,) = (folder / "unet").glob("*.safetensors")
    file.rename(file.with_suffix(".bin"))
    with pytest.raises(CheckpointError, match=r"unet/diffusion_pytorch_model\.bin is a pickle"):
        load_pipeline(folder)


def test_missing_weights_are_named(folder: Path):
    for file in (folder / "vae").glob("*.safetensors"):
        file.unlink()
    with pytest.raises(CheckpointError, match=r"vae holds no weights"):
        load_pipeline(folder)


def test_truncated_weights_are_named(folder: Path):
    file = folder / "text_encoder" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"text_encoder/model\.safetensors .* truncated or damaged"):
        load_pipeline(folder)


def test_a_missing_configuration_is_named(folder: Path):
    (folder / "vae" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"vae/config\.json is missing"):
        load_pipeline(folder)


@pytest.mark.parametrize(
    ("text", "problem"), [("{", "no readable JSON"), ("[]", "must hold a JSON object, got a list")]
)
def test_a_broken_configuration_is_named(folder: Path, text: str, problem: str):
    (folder / "unet" / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=rf"unet/config\.json .*{problem}"):
        load_pipeline(folder)


def test_a_folder_without_an_index_is_refused(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"is no diffusers folder \(no model_index\.json\)"):
        load_pipeline(tmp_path)


@pytest.mark.parametrize("class_name", ["StableDiffusionInpaintPipeline", "FluxPipeline"])
def test_another_pipeline_is_named(folder: Path, class_name: str):
    edit(folder / "model_index.json", _class_name=class_name)
    with pytest.raises(UnsupportedModelError, match=f"is a {class_name}; supported are"):
        load_pipeline(folder)


def test_an_inpainting_denoiser_is_named(folder: Path):
    edit(folder / "unet" / "config.json", in_channels=9)
    with pytest.raises(UnsupportedModelError, match="UNet2DConditionModel with 9 input channels; supported are"):
        load_pipeline(folder)


def test_weights_that_do_not_fit_their_configuration_are_named(folder: Path):
    edit(folder / "unet" / "config.json", cross_attention_dim=48)
    with pytest.raises(CheckpointError, match=r"sd15/unet has .*attn2\.to_k\.weight in shape \(32, 32\)"):
        load_pipeline(folder)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_missing_weight_is_named_rather_than_made_up(folder: Path, part: str):
    (file,) = (folder / part).glob("*.safetensors")
    weights = load_file(file)
    lost, _ = weights.popitem()
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(
        CheckpointError, match=rf"sd15/{part} lacks 1 of the .*{re.escape(lost.removeprefix('text_model.'))}"
    ):
        load_pipeline(folder)


def test_weights_under_the_names_of_older_releases_open(folder: Path, narrow_pipeline: Callable[[Family], Any]):
    (file,) = (folder / "vae").glob("*.safetensors")
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    weights = load_file(file)
    for new_part, old_part in old.items():
        weights = {name.replace(new_part, old_part): weight for name, weight in weights.items()}
    save_file(weights, file, metadata={"format": "pt"})
    query = load_pipeline(folder).vae.decoder.mid_block.attentions[0].to_q.weight
    assert torch.equal(query, narrow_pipeline("sd15").vae.decoder.mid_block.attentions[0].to_q.weight)


def test_a_configuration_that_makes_no_model_is_refused_in_one_line(folder: Path):
    edit(folder / "unet" / "config.json", down_block_types=["NoSuchBlock2D"] * 4)
    with pytest.raises(CheckpointError, match=r"cannot be opened by diffusers: .*NoSuchBlock2D") as caught:
        load_pipeline(folder)
    assert "\n" not in str(caught.value)
