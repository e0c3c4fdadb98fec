"""Open a Stable Diffusion checkpoint of a known family, whichever form it has on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .configuration import Configs, read_configs
from .family import Family, detect_family
from .folder import load_folder
from .header import read_header
from .original import load_original
from .prediction import check_prediction_type, find_prediction_type

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline


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
        return load_folder(path, dtype=dtype, device=device, prediction_type=prediction_type)
    header = read_header(path)
    family = detect_family(header)
    predicts = prediction_type or find_prediction_type(header, family)
    return load_original(path, _predicting(read_configs(family), family, predicts), dtype=dtype, device=device)


def _predicting(configs: Configs, family: Family, prediction_type: str) -> Configs:
    scheduler = {**configs["scheduler"], "prediction_type": prediction_type}
    if family == "sd2" and prediction_type == "v_prediction":  # published for 768 pixels, which is 96 in the latent
        return {**configs, "scheduler": scheduler, "unet": {**configs["unet"], "sample_size": 96}}
    return {**configs, "scheduler": scheduler}
