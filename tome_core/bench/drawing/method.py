"""What is compared: ways to turn the same prompts and noise into pictures, and all that their pictures depend on."""

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..suites import Case
from . import sampling
from .sampling import Drawn, Settings, draw

UNTOUCHED: Final = "untouched"


class LeftOutError(Exception):
    """A method cannot take part; the message is one sentence that says why."""


@dataclass(frozen=True)
class Method:
    """One way to draw; this one leaves the model as it is. It is sent to other processes."""

    name: str  # as the user wrote it, or as reports name it

    @property
    def identity(self) -> dict[str, Any]:
        """JSON-able values that tell its pictures from those of every other method, its own code included."""
        return {"draws": "prompts", "code": sources(sampling.__file__)}

    def on(self, model: Any, cases: Sequence[Case] = ()) -> AbstractContextManager[object]:
        """Return a context in which a model draws some cases this way, and after which nothing is left on it."""
        return nullcontext()

    def draw(self, pipeline: Any, cases: Sequence[Case], settings: Settings) -> Drawn:
        """Return one picture a case."""
        with self.on(pipeline, cases):
            return draw(pipeline, [case.prompt for case in cases], [case.seed for case in cases], settings)

    def fitted(self, unet: Any) -> "Method":
        """Return the method with what it takes from the family of a model."""
        return self

    def try_out(self, pipeline: Any, cases: Sequence[Case], settings: Settings) -> list[str]:
        """Draw one step of one picture; return in sentences what has less effect on the cases than was asked for."""
        return []


BASELINE: Final = Method(UNTOUCHED)
"""The pipeline as it is, with which every other method is compared."""


def sources(*paths: str | Path) -> str:
    """Return a digest of files, and of all code and word lists below folders: with others come other pictures."""
    digest = hashlib.sha256()
    for path in map(Path, paths):
        below = (file for file in path.rglob("*") if file.suffix in (".py", ".json"))
        for file in sorted(below) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
