"""What a command runs on: the device and type that were asked for, its clock, and its description for a report."""

import os
import platform
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

from .. import __version__
from ..errors import UserError

DTYPES: Final = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Seconds(NamedTuple):
    """Time on two clocks: of the processor, over all threads of this process, and of the wall."""

    processor: float
    wall: float

    def __sub__(self, start: "Seconds") -> "Seconds":
        return Seconds(self.processor - start.processor, self.wall - start.wall)


class Clock:
    """The clock of a device. On a CPU its figure is processor time, which other programs do not disturb as much."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.name = "processor" if device.type == "cpu" else "wall"
        self.unit = "CPU seconds" if device.type == "cpu" else "seconds"

    def __call__(self) -> Seconds:
        """Return the time now, when all that was asked of the device is done."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif self._device.type == "mps":
            torch.mps.synchronize()
        return Seconds(time.process_time(), time.perf_counter())

    def figure(self, seconds: Seconds) -> float:
        """Return the seconds that count on this device."""
        return seconds.processor if self.name == "processor" else seconds.wall


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


def describe(device: torch.device) -> dict[str, Any]:
    """Return what a reader needs to place timings, without the name of the machine."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "tome_suite": __version__,
    }


def usable_cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    """Return the processor's name; only Linux keeps it where Python does not look."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.is_file() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
