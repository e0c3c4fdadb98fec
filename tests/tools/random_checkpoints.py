"""Write checkpoints of true layout and random weights, full-size or narrow, for tests that must not download any.

    python -m tests.tools.random_checkpoints sd15 model.safetensors            one file in original layout
    python -m tests.tools.random_checkpoints sdxl folder --folder              a diffusers folder

Matrices are normal with deviation 1 / sqrt(fan in), embeddings 0.02, norms 1, biases 0: outputs stay finite
and pictures are noise.
"""

import argparse
import copy
import json
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tome_core.checkpoints import load_original
from tome_core.checkpoints.configuration import Configs, original_shapes, read_configs
from tome_core.checkpoints.family import Family

Shapes = dict[str, tuple[int, ...]]
_STRIP = 1_048_573  # a prime, so that no two rows of a matrix are cut from the same place
_CODES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.int64: "I64"}


def file_shapes(family: Family, configs: Configs) -> Shapes:
    """Return name -> shape of a published file: what a pipeline needs, and what such files hold besides."""
    needed = {name: tuple(shape) for part in original_shapes(configs).values() for name, shape in part.items()}
    return {**needed, **_surplus(family, configs)}


def narrow_configs(family: Family) -> dict[str, dict[str, Any]]:
    """Return a family's configurations with the least widths that its layers allow."""
    configs: dict[str, dict[str, Any]] = copy.deepcopy(dict(read_configs(family)))  # type: ignore[arg-type]
    levels = len(configs["unet"]["block_out_channels"])
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    configs["unet"] |= {"sample_size": 8, "block_out_channels": [32, 64, 64, 64][:levels], "cross_attention_dim": 32}
    configs["unet"]["attention_head_dim"] = 2
    configs["vae"] |= {"sample_size": 64, "block_out_channels": [32, 32, 32, 32], "layers_per_block": 1}
    configs["text_encoder"] |= text | {"projection_dim": 32}
    if family == "sdxl":
        configs["text_encoder_2"] |= text | {"hidden_size": 48, "projection_dim": 48}
        configs["unet"] |= {"cross_attention_dim": 80, "transformer_layers_per_block": [1, 1, 2]}
        configs["unet"] |= {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 48 + 6 * 8}
    return configs


def write_original(
    path: Path, family: Family, configs: Configs, *, dtype: torch.dtype = torch.float16, seed: int = 0
) -> None:
    """Write one file in original layout, weight by weight, so that memory holds one weight at a time."""
    shapes = file_shapes(family, configs)
    with path.open("wb") as file:
        file.write(_header(shapes, dtype))
        for name, shape in shapes.items():
            weight = random_weight(name, shape, seed).to(_type_of(name, dtype))
            file.write(weight.reshape(-1).view(torch.uint8).numpy().data)


def write_hollow(path: Path, shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str] | None = None) -> None:
    """Write a file whose header is true and whose weights are a hole: any size, no room on the disk, all zeros."""
    with path.open("wb") as file:
        header = _header(shapes, torch.float16, metadata)
        file.write(header)
        file.truncate(len(header) + sum(_bytes(name, shape, torch.float16) for name, shape in shapes.items()))


def write_folder(path: Path, family: Family, configs: Configs, *, variant: str | None = None, seed: int = 0) -> None:
    """Write a diffusers folder in float16 with the same weights that `write_original` writes."""
    single = path.with_suffix(".original.safetensors")
    write_original(single, family, configs, seed=seed)
    try:
        load_original(single, configs, dtype=torch.float16).save_pretrained(path, variant=variant)
    finally:
        single.unlink()


def random_weight(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Return the weight of that name, the same for the same seed in whatever order weights are asked for.

    Cheap enough for billions of weights: all are cut from one strip of normal numbers, each from a place of its own.
    """
    if name.endswith("position_ids"):
        return torch.arange(shape[-1]).reshape(shape)
    if name.endswith("bias") or not shape:
        return torch.zeros(shape)
    if len(shape) == 1:
        return torch.ones(shape)
    start = zlib.crc32(name.encode()) % _STRIP
    size = math.prod(shape)
    strip = _normal_strip(seed).repeat(math.ceil((start + size) / _STRIP))[start : start + size]
    return strip.reshape(shape) * (0.02 if "embedding" in name else math.prod(shape[1:]) ** -0.5)


@cache
def _normal_strip(seed: int) -> Tensor:
    return torch.randn(_STRIP, generator=torch.Generator().manual_seed(seed))


def _surplus(family: Family, configs: Configs) -> Shapes:
    """Return what published files hold and a pipeline does not need, which a loader must not trip over."""
    schedule: Shapes = {"alphas_cumprod": (1000,), "betas": (1000,), "model_ema.decay": ()}
    if family == "sd15":
        return {**schedule, "cond_stage_model.transformer.text_model.embeddings.position_ids": (1, 77)}
    if family == "sdxl":
        ids: Shapes = {"conditioner.embedders.0.transformer.text_model.embeddings.position_ids": (1, 77)}
        return {**ids, "conditioner.embedders.1.model.logit_scale": ()}
    width = int(configs["text_encoder"]["hidden_size"])
    layers = int(configs["text_encoder"]["num_hidden_layers"])
    last = f"cond_stage_model.model.transformer.resblocks.{layers - 1}."
    copied = {name: shape for name, shape in original_shapes(configs)["text_encoder"].items() if name.startswith(last)}
    # Pipelines read the last layer but one, so theirs ends there; the file has the layer after it.
    unused = {name.replace(f".{layers - 1}.", f".{layers}."): tuple(shape) for name, shape in copied.items()}
    prefix = "cond_stage_model.model."
    return {**schedule, **unused, prefix + "text_projection": (width, width), prefix + "logit_scale": ()}


def _header(
    shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype, metadata: Mapping[str, str] | None = None
) -> bytes:
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    for (name, shape), (start, end) in zip(shapes.items(), _places(shapes, dtype), strict=True):
        entries[name] = {"dtype": _CODES[_type_of(name, dtype)], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _places(shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> Iterator[tuple[int, int]]:
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + _bytes(name, shape, dtype)
        yield start, end


def _bytes(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> int:
    return math.prod(shape) * _type_of(name, dtype).itemsize


def _type_of(name: str, dtype: torch.dtype) -> torch.dtype:
    return torch.int64 if name.endswith("position_ids") else dtype


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=("sd15", "sd2", "sdxl"))
    parser.add_argument("path", type=Path)
    parser.add_argument("--folder", action="store_true", help="write a diffusers folder")
    parser.add_argument("--narrow", action="store_true", help="write the least widths (opened by load_original only)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    configs = narrow_configs(arguments.family) if arguments.narrow else read_configs(arguments.family)
    write = write_folder if arguments.folder else write_original
    write(arguments.path, arguments.family, configs, seed=arguments.seed)


if __name__ == "__main__":
    main()
