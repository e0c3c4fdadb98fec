"""The clock of a device, and a description of the machine that its times were taken on."""

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from .. import __version__


class Seconds(NamedTuple):
    """Time on two clocks: of the processor, over all threads of this process, and of the wall."""

    processor: float
    wall: float

    def __sub__(self, start: "Seconds") -> "Seconds":
        return Seconds(self.processor - start.processor, self.wall - start.wall)


class Spread(NamedTuple):
    """The median, the least and the most of some figures."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> "Spread":
        """Return the spread of some figures."""
        return cls(median(figures), min(figures), max(figures))

    def as_dict(self, name: str) -> dict[str, float]:
        """Return JSON-able values under a name."""
        return {name: self.median, f"{name}_min": self.least, f"{name}_max": self.most}


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


def describe(device: torch.device) -> dict[str, Any]:
    """Return what a reader needs to weigh timings, without the name of the machine."""
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


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")  # only Linux keeps the name where Python does not look
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.is_file() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
