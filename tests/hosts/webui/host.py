"""Forge Neo in this process, on a CPU and offline, with the demo model as its checkpoint. WEBUI_PATH names its folder.

    WEBUI_PATH=~/forge-neo/webui ~/forge-neo/venv/bin/python -m pytest tests/hosts/webui

Neo knows models by their widths, so the demo model is registered, here alone. One process can hold one host.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SLOT = "model_function_wrapper"
TEXT_WIDTH = 96  # of the demo model
ROOT = Path(__file__).resolve().parents[3]


def missing() -> str | None:
    """Return why there is no such host here; None where there is one."""
    path = os.environ.get("WEBUI_PATH")
    if not path or not (Path(path) / "modules_forge").exists():
        return "WEBUI_PATH does not name a Forge Neo (its folder with modules_forge)"
    return None


@functools.cache
def new_model() -> Any:
    """Return the patcher of the demo model's UNet, always the same."""
    _start(Path(os.environ["WEBUI_PATH"]).resolve())
    from backend import memory_management  # type: ignore[import-not-found]
    from backend.loader import forge_loader  # type: ignore[import-not-found]

    unet = forge_loader(str(ROOT / "tome_core" / "demo" / "weights" / "tome-demo.safetensors"), []).forge_objects.unet
    memory_management.load_model_gpu(unet)
    return unet


@torch.inference_mode()
def sample(model: Any, *, size: tuple[int, int] = (32, 32), batch: int = 1, steps: int = 4, seed: int = 0) -> Tensor:
    """Return latents of Euler steps, each a call by the slot as Neo's own sampler makes it."""
    random = torch.Generator().manual_seed(seed)
    text = torch.randn(2, 77, TEXT_WIDTH, generator=random).repeat_interleave(batch, dim=0)
    levels, wrapper = model.model.predictor.sigmas.cpu(), model.model_options.get(SLOT)
    sigmas = torch.cat([levels[torch.linspace(len(levels) - 1, 0, steps + 1).long()[:-1]], torch.zeros(1)])
    x = torch.randn(batch, 4, *size, generator=random) * sigmas[0]
    for sigma, following in pairwise(sigmas):
        options = {**model.model_options.get("transformer_options", {}), "cond_or_uncond": [1, 0]}
        options["sigmas"] = sigma.expand(batch)
        c = {"c_crossattn": text, "transformer_options": options}
        rows, t = x.repeat(2, 1, 1, 1), sigma.expand(2 * batch)
        if wrapper is None:
            denoised = model.model.apply_model(rows, t, **c)
        else:
            given = {"input": rows, "timestep": t, "c": c, "cond_or_uncond": [1, 0]}
            denoised = wrapper(model.model.apply_model, given)
        negative, positive = denoised.chunk(2)
        x = x + (x - (negative + 3 * (positive - negative))) / sigma * (following - sigma)
    return x


def _start(webui: Path) -> None:
    """Import the host as its launcher does, without its user interface, and register the demo model."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
    sys.argv = ["launch.py", "--cpu"]
    os.chdir(webui)
    sys.path[:0] = [str(webui), str(webui / "modules_forge" / "packages")]
    from modules_forge.initialization import initialize_forge  # type: ignore[import-not-found]

    initialize_forge()
    from modules import initialize  # type: ignore[import-not-found]

    initialize.imports()
    _register(_model_folder(webui))


def _register(folder: Path) -> None:
    from backend.diffusion_engine.sd15 import StableDiffusion  # type: ignore[import-not-found]
    from huggingface_guess import model_list  # type: ignore[import-not-found]

    class TomeDemo(model_list.SD15):
        pass

    TomeDemo.huggingface_repo = str(folder)
    TomeDemo.unet_config = {**model_list.SD15.unet_config, "context_dim": TEXT_WIDTH, "model_channels": 32}
    TomeDemo.unet_extra_config = {"num_heads": 2, "num_head_channels": -1}
    model_list.models.insert(0, TomeDemo)
    StableDiffusion.matched_guesses.append(TomeDemo)


def _model_folder(webui: Path) -> Path:
    """Return a folder with what Neo reads of a diffusers repository beside the weights."""
    from tome_core.demo.architecture import AUTOENCODER, TEXT

    source = webui / "backend" / "huggingface" / "runwayml" / "stable-diffusion-v1-5"
    folder = Path(tempfile.mkdtemp(prefix="tome-demo-"))
    shutil.copy2(source / "model_index.json", folder)
    for name in ("tokenizer", "scheduler"):
        shutil.copytree(source / name, folder / name)
    for name, config in (("text_encoder", TEXT | {"model_type": "clip_text_model"}), ("vae", AUTOENCODER)):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
