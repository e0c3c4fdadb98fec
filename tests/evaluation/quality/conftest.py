"""Methods that need no model, and an easel that keeps their pictures in an empty folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tome_core.demo.scene import Kind
from tome_core.evaluation.cases import Case
from tome_core.evaluation.quality import Easel, Method, Model, Store
from tome_core.evaluation.sampling import Drawn, Settings

SIDE = 64


@dataclass(frozen=True)
class NoModel(Model):
    """Nothing to open: for methods that paint without one."""

    def open(self) -> Any:
        return None


class Studio:
    """A method that paints each case in a grey that follows from its seed, and notes which batches it was asked for."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.method = Method("grey", {"draws": "greys"}, self._draw)

    def _draw(self, pipeline: Any, cases: Sequence[Case], settings: Settings) -> Drawn:
        self.batches.append([case.seed for case in cases])
        greys = np.array([case.seed % 256 for case in cases], np.uint8)
        pictures = np.broadcast_to(greys[:, None, None, None], (len(cases), SIDE, SIDE, 3)).copy()
        return Drawn(pictures, greys[:, None, None, None].astype(np.float32) * np.ones((1, 4, 8, 8), np.float32))


@pytest.fixture
def studio() -> Studio:
    return Studio()


@pytest.fixture
def easel(tmp_path: Path) -> Easel:
    return Easel(NoModel(), Settings(1, 3.0, SIDE), Store(tmp_path / "cache"))


@pytest.fixture
def new_cases() -> Callable[[int], list[Case]]:
    wanted: tuple[Kind, ...] = (("red", "square"),)
    return lambda count: [Case(wanted, f"prompt {seed // 4}", seed) for seed in range(count)]
