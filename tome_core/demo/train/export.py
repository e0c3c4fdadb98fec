"""The last stage: one fp16 checkpoint in Stable Diffusion 1.5's original key layout, and what stands beside it."""

import json
import platform
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ...checkpoints import to_original_layout
from ..contrastive import HEADS, ContrastivePair
from ..loader import CHECKPOINT


def export(folder: Path, unet: Any, autoencoder: Any, pair: ContrastivePair) -> None:
    """Write the checkpoint, the heads of the contrastive pair, and `training.json`: what each stage took."""
    save_file(to_original_layout(unet, autoencoder, pair.text, dtype=torch.float16), folder / CHECKPOINT.name)
    save_file({name: tensor.half() for name, tensor in pair.heads().items()}, folder / HEADS.name)
    stages = {file.stem: torch.load(file, weights_only=True, map_location="cpu") for file in folder.glob("*.pt")}
    took = {
        name: {"steps": stage["done"], "seconds": round(stage["seconds"]), "loss": round(stage["losses"][-1], 4)}
        for name, stage in sorted(stages.items())
    }
    machine = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__}
    (folder / "training.json").write_text(json.dumps({"machine": machine, "stages": took}, indent=2) + "\n")
