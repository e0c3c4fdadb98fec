"""What a safetensors file says about itself before any weight is read: names, shapes and metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open

from ..errors import CheckpointError

PICKLES: Final = (".ckpt", ".pt", ".pth", ".bin", ".pkl")


@dataclass(frozen=True)
class Header:
    """The table of contents of one safetensors file."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_header(path: Path) -> Header:
    """Return the header of a safetensors file; no weight is read.

    Raises `CheckpointError` for a missing file, a pickle, another kind of file, and a truncated or damaged one.
    """
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; models are opened from local files, nothing is downloaded")
    refuse_pickle(path)
    if not path.is_file() or path.suffix.lower() != ".safetensors":
        raise CheckpointError(f"{path} must be a .safetensors file or a diffusers folder")
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            return Header(path, shapes, file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is no whole safetensors file, truncated or damaged ({error})") from error


def refuse_pickle(path: Path) -> None:
    """Raise `CheckpointError` if the file's name says that it is a pickle."""
    if path.suffix.lower() in PICKLES:
        raise CheckpointError(
            f"{path} is a pickle, and opening a pickle can run any code hidden in it; convert it to .safetensors"
        )
