"""The model that draws: the demo model from a file of weights, or a checkpoint of the user's."""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch

from ... import checkpoints
from ...checkpoints import load_pipeline
from ...demo import CHECKPOINT, architecture, load_demo, loader
from ...demo.architecture import CONFIGS
from .method import sources

DEMO_SIZE: Final = 256  # pixels a side
_LIBRARIES: Final = ("torch", "diffusers", "transformers")
_VERSION: Final = cache(version)
_CONFIGS: Final = hashlib.sha256(json.dumps(CONFIGS, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class PictureModel:
    """The demo model, or a checkpoint of the user's, and what it runs in. It is sent to other processes."""

    path: Path = CHECKPOINT  # the file of weights; of a checkpoint it may be a diffusers folder
    device: str = "cpu"
    dtype: str = "float32"
    is_demo: bool = True  # whether these are weights of the demo model, whose pictures the judge can read

    def open(self) -> Any:
        """Return the pipeline, the same one at every call in a process. Raises `CheckpointError`."""
        return _open(self)

    @property
    def identity(self) -> dict[str, Any]:
        """All that its pictures depend on, as JSON-able values: weights, configuration, code, libraries, device."""
        return {
            "code": sources(*checkpoints.__path__, loader.__file__, architecture.__file__),
            "weights": _digest(self.path) if self.is_demo else _look(self.path),
            "configs": _CONFIGS if self.is_demo else None,
            "dtype": self.dtype,
            "libraries": {name: _VERSION(name) for name in _LIBRARIES},
            "device": torch.device(self.device).type,
        }


@cache
def _open(model: PictureModel) -> Any:
    settings: Any = {"dtype": getattr(torch, model.dtype), "device": torch.device(model.device)}
    pipeline = load_demo(checkpoint=model.path, **settings) if model.is_demo else load_pipeline(model.path, **settings)
    pipeline.set_progress_bar_config(disable=True)
    if pipeline.vae.dtype == torch.float16 and getattr(pipeline.vae.config, "force_upcast", False):
        pipeline.vae.to(torch.float32)  # SDXL's decoder overflows in half precision
    return pipeline


@cache
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def _look(root: Path) -> str:
    """Return a digest of the names, sizes and times of files, which is quick where there are gigabytes."""
    files = sorted(file for file in root.rglob("*") if file.is_file()) if root.is_dir() else [root]
    seen = [(str(file.relative_to(root.parent)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr(seen).encode()).hexdigest()
