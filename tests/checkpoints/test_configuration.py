from pathlib import Path

import pytest

from tests.tools.random_checkpoints import file_shapes, write_hollow
from tome_core.checkpoints.configuration import check_complete, read_configs
from tome_core.checkpoints.family import Family, Header, read_header
from tome_core.errors import CheckpointError

STEM = "model.diffusion_model.input_blocks.0.0.weight"
OUT = "model.diffusion_model.out.2.weight"


def header(shapes: dict[str, tuple[int, ...]]) -> Header:
    return Header(Path("model.safetensors"), shapes)


@pytest.fixture(scope="module")
def sd15_shapes() -> dict[str, tuple[int, ...]]:
    return file_shapes("sd15", read_configs("sd15"))


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
def test_a_whole_file_of_true_size_passes(tmp_path: Path, family: Family):
    configs = read_configs(family)
    path = tmp_path / "model.safetensors"
    write_hollow(path, file_shapes(family, configs))
    check_complete(read_header(path), configs)


@pytest.mark.parametrize(
    ("prefix", "part"),
    [("first_stage_model.", "vae"), ("cond_stage_model.", "text_encoder"), ("model.diffusion_model.", "unet")],
)
def test_a_missing_part_is_named(sd15_shapes: dict[str, tuple[int, ...]], prefix: str, part: str):
    shapes = {name: shape for name, shape in sd15_shapes.items() if not name.startswith(prefix)}
    with pytest.raises(CheckpointError, match=rf"model\.safetensors holds no {part} \(such as {prefix}"):
        check_complete(header(shapes), read_configs("sd15"))


def test_a_missing_weight_is_named(sd15_shapes: dict[str, tuple[int, ...]]):
    shapes = {name: shape for name, shape in sd15_shapes.items() if name != OUT}
    with pytest.raises(CheckpointError, match=f"lacks 1 of the 686 weights of the unet, first {OUT}"):
        check_complete(header(shapes), read_configs("sd15"))


def test_a_misshapen_weight_is_named(sd15_shapes: dict[str, tuple[int, ...]]):
    with pytest.raises(CheckpointError, match=r"in shape \(320, 9, 3, 3\), the unet needs \(320, 4, 3, 3\)"):
        check_complete(header({**sd15_shapes, STEM: (320, 9, 3, 3)}), read_configs("sd15"))


def test_a_1x1_convolution_serves_as_the_matrix_that_it_is(sd15_shapes: dict[str, tuple[int, ...]]):
    query = "first_stage_model.decoder.mid.attn_1.q.weight"
    assert sd15_shapes[query] == (512, 512)
    check_complete(header({**sd15_shapes, query: (512, 512, 1, 1)}), read_configs("sd15"))
