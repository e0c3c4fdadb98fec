"""The model that draws: a file of weights of the demo model's architecture, opened on a device."""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import torch

from ...demo import CHECKPOINT, load_demo
from ...demo.architecture import CONFIGS

_LIBRARIES: Final = ("torch", "diffusers", "transformers")
_CONFIGS: Final = hashlib.sha256(json.dumps(CONFIGS, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Model:
    """Weights and the device that they run on, in float32."""

    checkpoint: Path = CHECKPOINT
    device: str = "cpu"

    def open(self) -> Any:
        """Return the pipeline, the same one at every call in a process. Raises `CheckpointError`."""
        return _open(self)

    @property
    def weights(self) -> str:
        """The SHA-256 of the file."""
        return _digest(self.checkpoint)

    @property
    def identity(self) -> dict[str, Any]:
        """What its pictures depend on: weights, configuration with the sampler's, libraries, kind of device."""
        return {
            "weights": self.weights,
            "configs": _CONFIGS,
            "libraries": {name: _version(name) for name in _LIBRARIES},
            "device": torch.device(self.device).type,
        }


@cache
def _open(model: Model) -> Any:
    pipeline = load_demo(checkpoint=model.checkpoint, device=model.device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@cache
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:  # a host may bring it without its metadata
        return "unknown"
