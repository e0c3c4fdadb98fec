"""One process of the training: every stage in order, those that need no company side by side."""

import json
import platform
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from tome_core.checkpoints import to_original_layout
from tome_core.demo.architecture import HEADS, ContrastivePair
from tome_core.demo.loader import CHECKPOINT

from .autoencoder import train_autoencoder
from .denoiser import train_denoiser
from .optimisers import Worker
from .recipe import Recipe
from .text import train_text


def train(rank: int, world: int, port: int, device: str, folder: Path, recipe: Recipe) -> None:
    """Be one of `world` processes: text and autoencoder side by side where there are two, then the denoiser."""
    if device == "cpu":
        torch.set_num_threads(1)
    if world > 1:
        patience = timedelta(days=1)  # for the one that waits while the other trains the autoencoder
        address = f"tcp://127.0.0.1:{port}"
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world, timeout=patience)
    worker = Worker(rank, world, device)
    if rank == 0:
        train_text(folder, recipe, device, writes=True)
    if rank == world - 1:
        train_autoencoder(folder, recipe, device, writes=True)
    if world > 1:
        dist.barrier()
    pair = train_text(folder, recipe, device, writes=False)  # both are done: this only reads them
    autoencoder = train_autoencoder(folder, recipe, device, writes=False)
    unet = train_denoiser(pair.text, autoencoder, folder, recipe, worker)
    if worker.writes:
        export(folder, unet, autoencoder, pair)


def export(folder: Path, unet: Any, autoencoder: Any, pair: ContrastivePair) -> None:
    """Write the checkpoint (float16, Stable Diffusion 1.5's original keys), the heads of the pair, and `training.json`.

    The last one holds what each stage took.
    """
    save_file(to_original_layout(unet, autoencoder, pair.text, dtype=torch.float16), folder / CHECKPOINT.name)
    save_file({name: tensor.half() for name, tensor in pair.heads().items()}, folder / HEADS.name)
    stages = {file.stem: torch.load(file, weights_only=True, map_location="cpu") for file in folder.glob("*.pt")}
    took = {
        name: {"steps": stage["done"], "seconds": round(stage["seconds"]), "loss": round(stage["losses"][-1], 4)}
        for name, stage in sorted(stages.items())
    }
    machine = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__}
    (folder / "training.json").write_text(json.dumps({"machine": machine, "stages": took}, indent=2) + "\n")
