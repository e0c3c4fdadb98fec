from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tome_core.checkpoints.header import read_header
from tome_core.errors import CheckpointError


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
