"""The demo model, opened once, and a method that needs no model, with a runner that keeps its pictures in a folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tome_core.bench.drawing.method import Method
from tome_core.bench.drawing.models import PictureModel
from tome_core.bench.drawing.runner import Runner
from tome_core.bench.drawing.sampling import Drawn, Settings
from tome_core.bench.suites import Case
from tome_core.demo.scene import Kind

SIDE = 64


@pytest.fixture(scope="session")
def pipeline() -> Any:
    return PictureModel().open()


@dataclass(frozen=True)
class NoModel(PictureModel):
    """Nothing to open: for methods that draw without one."""

    def open(self) -> Any:
        return None


@dataclass(frozen=True)
class Greys(Method):
    """Draws each case in a grey that follows from its seed, and notes which batches it was asked for."""

    batches: list[list[int]] = field(default_factory=list)

    @property
    def identity(self) -> dict[str, Any]:
        return {"draws": "greys"}

    def draw(self, pipeline: Any, cases: Sequence[Case], settings: Settings) -> Drawn:
        self.batches.append([case.seed for case in cases])
        greys = np.array([case.seed % 256 for case in cases], np.uint8)
        pictures = np.broadcast_to(greys[:, None, None, None], (len(cases), SIDE, SIDE, 3)).copy()
        return Drawn(pictures, greys[:, None, None, None].astype(np.float32) * np.ones((1, 4, 8, 8), np.float32))


@pytest.fixture
def greys() -> Greys:
    return Greys("grey")


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(NoModel(), Settings(1, 3.0, SIDE), tmp_path / "cache")


@pytest.fixture
def new_cases() -> Callable[[int], list[Case]]:
    wanted: tuple[Kind, ...] = (("red", "square"),)
    return lambda count: [Case(wanted, f"prompt {seed // 4}", seed) for seed in range(count)]
