from pathlib import Path
from typing import Any

import pytest

from tests.tools.random_checkpoints import file_shapes, write_hollow
from tome_core.checkpoints import load_pipeline
from tome_core.checkpoints.configuration import Configs, read_configs
from tome_core.checkpoints.family import Family
from tome_core.errors import UnsupportedModelError


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
