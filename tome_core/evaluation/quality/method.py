"""What is compared: ways to turn the same prompts and noise into pictures, and all that their pictures depend on."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .. import sampling
from ..cases import Case
from ..sampling import Drawn, Settings, draw

DrawCases = Callable[[Any, Sequence[Case], Settings], Drawn]
"""From a pipeline, B cases and settings to their pictures, without a trace on the pipeline."""


@dataclass(frozen=True)
class Method:
    """One way to draw.

    Attributes:
        name: as people call it.
        identity: JSON-able values that tell its pictures from those of every other method, its own code included.
        draw: a function of a module or a `partial` of one, since it is sent to other processes.
    """

    name: str
    identity: Mapping[str, Any]
    draw: DrawCases


def sources(*paths: str | Path | None) -> str:
    """Return a digest of Python files, and of all those below folders: with other code come other pictures."""
    digest = hashlib.sha256()
    for path in map(Path, filter(None, paths)):
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _draw_prompts(pipeline: Any, cases: Sequence[Case], settings: Settings) -> Drawn:
    return draw(pipeline, [case.prompt for case in cases], [case.seed for case in cases], settings)


BASELINE: Final = Method("untouched", {"draws": "prompts", "code": sources(sampling.__file__)}, _draw_prompts)
"""The pipeline as it is, with which every other method is compared."""
