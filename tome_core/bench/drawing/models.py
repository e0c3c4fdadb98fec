"""The model that draws: the demo model from a file of weights, or a checkpoint of the user's."""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import torch

from ...checkpoints import load_pipeline
from ...demo import CHECKPOINT, load_demo
from ...demo.architecture import CONFIGS

DEMO_SIZE: Final = 256  # pixels a side
_LIBRARIES: Final = ("torch", "diffusers", "transformers")
_CONFIGS: Final = hashlib.sha256(json.dumps(CONFIGS, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class DemoModel:
    """The demo model's weights and the device that they run on, in float32. It is sent to other processes."""

    checkpoint: Path = CHECKPOINT
    device: str = "cpu"

    def open(self) -> Any:
        """Return the pipeline, the same one at every call in a process. Raises `CheckpointError`."""
        return _open_demo(self)

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.checkpoint.name

    @property
    def weights(self) -> str:
        """The SHA-256 of the file."""
        return _digest(self.checkpoint)

    @property
    def identity(self) -> dict[str, Any]:
        """What its pictures depend on, as JSON-able values: weights, configuration, libraries, kind of device."""
        return {"weights": self.weights, "configs": _CONFIGS, **_surroundings(self.device)}


@dataclass(frozen=True)
class CheckpointModel:
    """A checkpoint file or a diffusers folder, a device, and a type of numbers such as "float16"."""

    path: str
    device: str
    dtype: str

    def open(self) -> Any:
        """Return the pipeline, the same one at every call in a process. Raises as `load_pipeline` does."""
        return _open_checkpoint(self)

    @property
    def name(self) -> str:
        """The name of the file or folder."""
        return Path(self.path).name

    @property
    def identity(self) -> dict[str, Any]:
        """What its pictures depend on. Weights are known by the names, sizes and times of files, which is quick."""
        return {"weights": _look(self.path), "dtype": self.dtype, **_surroundings(self.device)}


PictureModel = DemoModel | CheckpointModel


def _surroundings(device: str) -> dict[str, Any]:
    return {"libraries": {name: _version(name) for name in _LIBRARIES}, "device": torch.device(device).type}


@cache
def _open_demo(model: DemoModel) -> Any:
    pipeline = load_demo(checkpoint=model.checkpoint, device=model.device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@cache
def _open_checkpoint(model: CheckpointModel) -> Any:
    pipeline = load_pipeline(model.path, dtype=getattr(torch, model.dtype), device=torch.device(model.device))
    pipeline.set_progress_bar_config(disable=True)
    if pipeline.vae.dtype == torch.float16 and getattr(pipeline.vae.config, "force_upcast", False):
        pipeline.vae.to(torch.float32)  # SDXL's decoder overflows in half precision
    return pipeline


@cache
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def _look(path: str) -> str:
    root = Path(path)
    files = sorted(file for file in root.rglob("*") if file.is_file()) if root.is_dir() else [root]
    seen = [(str(file.relative_to(root.parent)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr(seen).encode()).hexdigest()


@cache
def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:  # a host may bring it without its metadata
        return "unknown"
