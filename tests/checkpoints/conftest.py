"""Narrow checkpoints of each family, written once a run."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.tools.random_checkpoints import file_shapes, narrow_configs
from tome_core.checkpoints import load_original
from tome_core.checkpoints.family import Family


@pytest.fixture(scope="session")
def narrow_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Family], Path]:
    """Return a function from a family to a narrow file in original layout, float32, no two weights equal."""
    folder = tmp_path_factory.mktemp("narrow")

    @cache
    def write(family: Family) -> Path:
        generator = torch.Generator().manual_seed(0)
        shapes = file_shapes(family, narrow_configs(family))
        path = folder / f"{family}.safetensors"
        save_file({name: torch.randn(shape, generator=generator) * 0.05 for name, shape in shapes.items()}, path)
        return path

    return write


@pytest.fixture(scope="session")
def narrow_pipeline(narrow_file: Callable[[Family], Path]) -> Callable[[Family], Any]:
    """Return a function from a family to the pipeline of its narrow file, opened once: look, do not touch."""

    @cache
    def opened(family: Family) -> Any:
        return load_original(narrow_file(family), narrow_configs(family))

    return opened
