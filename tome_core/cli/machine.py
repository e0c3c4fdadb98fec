"""What a command runs on: the device and the type of numbers that were asked for."""

import os
from typing import Final

import torch

from ..errors import UserError

DTYPES: Final = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


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


def usable_cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
