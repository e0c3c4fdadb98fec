"""The model that draws: what any has to tell, and the demo model from a file of weights, opened on a device."""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Protocol

import torch

from ...demo import CHECKPOINT, load_demo
from ...demo.architecture import CONFIGS

_LIBRARIES: Final = ("torch", "diffusers", "transformers")
_CONFIGS: Final = hashlib.sha256(json.dumps(CONFIGS, sort_keys=True).encode()).hexdigest()[:16]


class AnyModel(Protocol):
    """What draws: it is sent to other processes, and opened there."""

    @property
    def device(self) -> str:
        """The device that it runs on."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """All that its pictures depend on, as JSON-able values."""
        ...

    def open(self) -> Any:
        """Return the pipeline, the same one at every call in a process."""
        ...


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
            "libraries": library_versions(),
            "device": torch.device(self.device).type,
        }


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that pictures depend on."""
    return {name: _version(name) for name in _LIBRARIES}


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
