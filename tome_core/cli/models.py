"""The models that a command can open by name or path, and the device and threads that they run on."""

import argparse
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import copy, deepcopy
from importlib.util import find_spec
from typing import Any, Final

import torch

from ..bench.drawing.sampling import PIXELS
from ..checkpoints import load_pipeline, quiet_libraries
from ..demo import load_demo, untaught_words
from ..errors import UserError
from .console import note, waiting

DEMO: Final = "demo"
DTYPES: Final = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_AT_ONCE: Final = 4


@contextmanager
def opened(arguments: argparse.Namespace) -> Iterator[Any]:
    """Yield the pipeline that the arguments ask for, and keep its libraries quiet inside the block.

    Raises as `choose_device`, `quiet_diffusers` and `open_pipeline` do.
    """
    device = choose_device(arguments.device)
    dtype, predicts = choose_dtype(arguments.dtype, device), arguments.prediction_type
    with quiet_diffusers(), one_thread(arguments.model, device):
        yield open_pipeline(arguments.model, dtype=dtype, device=device, prediction_type=predicts)


def open_pipeline(name: str, *, dtype: torch.dtype, device: torch.device, prediction_type: str | None = None) -> Any:
    """Return the pipeline of the demo model or of a checkpoint's path, without a progress bar of its own.

    `prediction_type` is for a checkpoint; the demo model's is known.
    Raises `CheckpointError` and `UnsupportedModelError` as `load_pipeline` does.
    """
    with waiting(f"opening {name}"):
        where: Any = {"dtype": dtype, "device": device}
        pipeline = load_demo(**where) if name == DEMO else load_pipeline(name, prediction_type=prediction_type, **where)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def quiet_diffusers() -> AbstractContextManager[None]:
    """Return a block inside which diffusers and transformers give neither warnings nor progress bars.

    Raises `UserError` where one is not installed.
    """
    missing = [name for name in ("diffusers", "transformers") if find_spec(name) is None]
    if missing:
        named = " and ".join(missing)
        raise UserError(f"this needs {named}, which is not installed here: pip install 'tome-suite[diffusers]'")
    return quiet_libraries(bars=False)


def choose_device(name: str) -> torch.device:
    """Return the device of a name; "auto" is a GPU if there is one.

    Raises `UserError` for a name that torch does not know, or a device that is not here.
    """
    if name == "auto":
        has_mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).item()  # torch finds out only now whether it is there; meta has no values
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"device must be auto, cpu, or a GPU that torch finds on this machine, got {name!r}") from error
    return device


def choose_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """Return the type of a name; None is float16 on a GPU and float32 elsewhere."""
    return DTYPES[name or ("float32" if device.type == "cpu" else "float16")]


@contextmanager
def one_thread(name: str, device: torch.device) -> Iterator[None]:
    """Inside the block, the demo model runs on one thread of the processor; OMP_NUM_THREADS, where it is set, rules.

    Several threads wait for one another after each of its small operations, and while another program has the
    processor of one of them, all others wait: on a busy machine that takes a hundred times as long as the work. One
    thread also gives the same pictures, bit for bit, whatever the number of processors.
    """
    before = torch.get_num_threads()
    if name == DEMO and device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pictures_at_once(name: str, device: torch.device) -> int:
    """Return how many pictures to draw at a time: several of the demo model, whose pictures take one thread each."""
    return _AT_ONCE if name == DEMO and device.type == "cpu" and torch.get_num_threads() == 1 else 1


def copy_pipeline(pipeline: Any) -> Any:
    """Return a pipeline that can draw in another thread at the same time; only what never changes is shared."""
    twin = copy(pipeline)
    for name in ("unet", "scheduler", "tokenizer"):
        setattr(twin, name, deepcopy(getattr(pipeline, name)))
    return twin


def default_size(unet: Any) -> tuple[int, int]:
    """Return the width and height in pixels that a denoiser was made for."""
    return (unet.config.sample_size * PIXELS,) * 2


def warn_of_words(prompts: list[str]) -> None:
    """Name the words that the demo model was not taught, in a note."""
    words = list(dict.fromkeys(word for prompt in prompts for word in untaught_words(prompt)))
    if words:
        named = ", ".join(map(repr, words))
        note(f"the demo model was not taught {named}; it knows coloured shapes, such as 'a red square'")
