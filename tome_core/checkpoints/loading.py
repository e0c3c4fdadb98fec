"""Open a Stable Diffusion checkpoint of a known family, from one file or a diffusers folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from ..errors import CheckpointError, UnsupportedModelError
from .configuration import Configs, check_part, empty_models, is_xl, read_configs, tokenizers
from .family import SUPPORTED, check_prediction_type, detect_family, find_prediction_type, read_header, refuse_pickle
from .original import load_original, opening, pipeline_options

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

_TEXT_ENCODERS: Final = {
    "StableDiffusionPipeline": ("text_encoder",),
    "StableDiffusionXLPipeline": ("text_encoder", "text_encoder_2"),
}
_OLD_NAMES: Final = {
    "text_model.": "",  # around a text encoder
    ".query.": ".to_q.",  # an autoencoder's attention
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj_attn.": ".to_out.0.",
}
_HALF: Final = "fp16"  # the one variant that is published widely


def load_pipeline(
    path: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    prediction_type: str | None = None,
) -> StableDiffusionPipeline | StableDiffusionXLPipeline:
    """Return the diffusers pipeline of a Stable Diffusion 1.5, 2.x or SDXL base checkpoint; nothing is fetched.

    path: a diffusers folder, or one .safetensors file in original layout.
    prediction_type: "epsilon" or "v_prediction"; None takes what the folder or file says. A Stable Diffusion 2 file
        that says nothing is guessed from its weights, and the guess is logged.

    Raises `CheckpointError` if there is no whole checkpoint at `path`, `UnsupportedModelError` if it is another kind
    of model: both before any weight is read.
    """
    check_prediction_type(prediction_type)
    path = Path(path)
    if path.is_dir():
        return _load_folder(path, dtype=dtype, device=device, prediction_type=prediction_type)
    header = read_header(path)
    family = detect_family(header)
    configs = read_configs(family, prediction_type or find_prediction_type(header, family))
    return load_original(path, configs, dtype=dtype, device=device)


def _load_folder(path: Path, *, dtype: torch.dtype, device: str | torch.device, prediction_type: str | None) -> Any:
    """Return the pipeline of a diffusers folder of safetensors weights, the fp16 variant where there is no other.

    Tokenizers that the folder lacks come from the shipped vocabulary; its safety checker is not opened.
    """
    class_name = _pipeline_class(path)
    parts = ("unet", "vae", *_TEXT_ENCODERS[class_name])
    configs = {part: _read_json(path / part / "config.json") for part in parts}
    found, channels = configs["unet"].get("_class_name", "UNet2DConditionModel"), configs["unet"].get("in_channels", 4)
    if found != "UNet2DConditionModel" or channels != 4:
        raise UnsupportedModelError(f"{path} has a {found} with {channels} input channels; {SUPPORTED}")
    files = {part: _weight_files(path / part) for part in parts}
    variant = _HALF if any(_is_half(file) for part in files.values() for file in part) else None
    with opening(path):
        import diffusers

        _check_weights(path, files, configs)
        options = {"use_safetensors": True, "torch_dtype": dtype, "variant": variant}
        options |= tokenizers(configs, path) | pipeline_options(is_xl(configs))
        pipeline = getattr(diffusers, class_name).from_pretrained(str(path), **options).to(device)
        if prediction_type is not None:
            config = {**pipeline.scheduler.config, "prediction_type": prediction_type}
            pipeline.scheduler = type(pipeline.scheduler).from_config(config)
    return pipeline


def _pipeline_class(path: Path) -> str:
    index = path / "model_index.json"
    if not index.is_file():
        raise CheckpointError(f"{path} is no diffusers folder (no model_index.json); name it or a .safetensors file")
    class_name = _read_json(index).get("_class_name")
    if class_name not in _TEXT_ENCODERS:
        raise UnsupportedModelError(f"{path} is a {class_name}; {SUPPORTED}")
    return class_name


def _weight_files(folder: Path) -> list[Path]:
    """Return the weight files of one component: the plain ones, else the fp16 variant."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        for file in sorted(folder.glob("*")):
            refuse_pickle(file)
        raise CheckpointError(f"{folder} holds no weights (*.safetensors)")
    return [file for file in files if not _is_half(file)] or files


def _is_half(file: Path) -> bool:
    return f".{_HALF}" in file.name


def _check_weights(path: Path, files: Mapping[str, list[Path]], configs: Configs) -> None:
    """Look for every weight in the headers: where one is missing, the libraries would make it up at random."""
    empty = empty_models(configs)
    for part, part_files in files.items():
        found = {_today(name): shape for file in part_files for name, shape in read_header(file).shapes.items()}
        needed = {_today(name): tuple(weight.shape) for name, weight in empty[part].state_dict().items()}
        check_part(path / part, part, needed, found)


def _today(name: str) -> str:
    """Return a weight's name in this release, which reads the names that older ones wrote."""
    for old, new in _OLD_NAMES.items():
        name = name.replace(old, new)
    return name


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is no readable JSON file ({error})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object, got a {type(content).__name__}")
    return content
