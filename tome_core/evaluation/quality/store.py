"""Pictures on disk, each under a key that is made of everything it depends on: what was drawn is never drawn again."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..sampling import Drawn


@dataclass(frozen=True)
class Store:
    """A folder of pictures. Several processes may write to it at once: a file is whole or not there."""

    folder: Path

    def __contains__(self, key: str) -> bool:
        return self._path(key).exists()

    def load(self, key: str) -> Drawn:
        """Return the one picture of a key and its latent, each with a batch axis of one."""
        with np.load(self._path(key), allow_pickle=False) as values:
            return Drawn(values["picture"][None], values["latents"][None])

    def save(self, key: str, drawn: Drawn, index: int) -> None:
        """Keep one picture of a batch; one that is there already is as good and stays."""
        path = self._path(key)
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.stem}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                np.savez_compressed(file, picture=drawn.pictures[index], latents=drawn.latents[index])
            part.replace(path)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npz"


def key_of(values: Mapping[str, Any]) -> str:
    """Return the key of JSON-able values, in whatever order they are given."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:40]
