import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tome_core.checkpoints.family import Family
from tome_core.checkpoints.header import read_header
from tome_core.checkpoints.prediction import check_prediction_type, find_prediction_type

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
