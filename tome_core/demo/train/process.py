"""One process of the training: every stage in order, those that need no company side by side."""

from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from .autoencoder import train_autoencoder
from .denoiser import train_denoiser
from .export import export
from .place import Place
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
    place = Place(rank, world, device)
    if rank == 0:
        train_text(folder, recipe, device, writes=True)
    if rank == world - 1:
        train_autoencoder(folder, recipe, device, writes=True)
    if world > 1:
        dist.barrier()
    pair = train_text(folder, recipe, device, writes=False)  # both are done: this only reads them
    autoencoder = train_autoencoder(folder, recipe, device, writes=False)
    unet = train_denoiser(pair.text, autoencoder, folder, recipe, place)
    if place.writes:
        export(folder, unet, autoencoder, pair)
