"""Open a checkpoint in Stable Diffusion's original key layout, given the configurations that it leaves out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from .completeness import check_complete
from .configuration import Configs, is_xl, text_encoders, tokenizer_of, tokenizers
from .header import Header, read_header
from .opening import opening

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

_CLASSES: Final = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "tokenizer_2": ("transformers", "CLIPTokenizer"),
}


def load_original(
    path: str | Path,
    configs: Configs,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> StableDiffusionPipeline | StableDiffusionXLPipeline:
    """Return a diffusers pipeline with the weights of one safetensors file in original layout; nothing is fetched.

    configs: see `configuration.Configs`; any widths, so that small models open too.

    Raises `CheckpointError` if the file is missing, a pickle, damaged, or lacks a weight that `configs` asks for:
    all told from its header. There is no safety checker and no watermark.
    """
    header = read_header(Path(path))
    with opening(header.path):
        check_complete(header, configs)
        return _convert(header, configs, dtype).to(device)


def pipeline_options(xl: bool) -> dict[str, Any]:
    """Return what every pipeline is opened with: no network, no safety checker, no watermark."""
    if xl:
        return {"local_files_only": True, "add_watermarker": False}
    return {
        "local_files_only": True,
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def _convert(header: Header, configs: Configs, dtype: torch.dtype) -> Any:
    import diffusers

    xl = is_xl(configs)
    pipeline_class = getattr(diffusers, "StableDiffusionXLPipeline" if xl else "StableDiffusionPipeline")
    scheduler = _scheduler(configs["scheduler"])
    with tempfile.TemporaryDirectory() as folder:  # diffusers reads configurations from a folder only
        _write_configs(Path(folder), configs, pipeline_class, type(scheduler))
        return pipeline_class.from_single_file(
            str(header.path),
            config=folder,
            scheduler=scheduler,
            torch_dtype=dtype,
            **tokenizers(configs),
            **pipeline_options(xl),
        )


def _scheduler(config: Mapping[str, Any]) -> Any:
    import diffusers

    return getattr(diffusers, config.get("_class_name", "DDIMScheduler")).from_config(dict(config))


def _write_configs(folder: Path, configs: Configs, pipeline_class: type, scheduler_class: type) -> None:
    """Write the configurations the way a diffusers folder holds them."""
    names = text_encoders(configs)
    for name in ("unet", "vae", *names):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(dict(configs[name])), encoding="utf-8")
    index: dict[str, Any] = {name: _CLASSES[name] for name in ("unet", "vae", *names, *map(tokenizer_of, names))}
    index["scheduler"] = ("diffusers", scheduler_class.__name__)
    index["_class_name"] = pipeline_class.__name__
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
