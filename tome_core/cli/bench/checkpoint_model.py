"""A checkpoint of the user's as a model that draws, for the evaluation, which knows the demo model alone."""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ...evaluation.quality import library_versions
from ..machine import DTYPES
from ..models import open_pipeline


@dataclass(frozen=True)
class CheckpointModel:
    """A checkpoint file or a diffusers folder, a device and a type of numbers."""

    path: str
    device: str
    dtype: str

    def open(self) -> Any:
        """Return the pipeline, the same one at every call in a process. Raises as `load_pipeline` does."""
        return _open(self)

    @property
    def identity(self) -> dict[str, Any]:
        """What its pictures depend on. Weights are told by the names, sizes and times of files, which is quick."""
        return {
            "weights": _digest(self.path),
            "dtype": self.dtype,
            "libraries": library_versions(),
            "device": torch.device(self.device).type,
        }


@cache
def _open(model: CheckpointModel) -> Any:
    pipeline = open_pipeline(model.path, dtype=DTYPES[model.dtype], device=torch.device(model.device))
    if pipeline.vae.dtype == torch.float16 and getattr(pipeline.vae.config, "force_upcast", False):
        pipeline.vae.to(torch.float32)  # SDXL's decoder overflows in half precision
    return pipeline


@cache
def _digest(path: str) -> str:
    root = Path(path)
    files = sorted(file for file in root.rglob("*") if file.is_file()) if root.is_dir() else [root]
    told = [(str(file.relative_to(root.parent)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr(told).encode()).hexdigest()
