"""The clock that a cost model is calibrated with."""

import time
from collections.abc import Callable
from functools import partial

import torch


class CannotTimeError(Exception):
    """Nothing can be timed here; the message says why, as the end of a sentence."""


def stopwatch(device: torch.device) -> Callable[[], float]:
    """Return a function that tells the seconds so far, when all that was asked of the device is done.

    On a CPU with one thread it is the processor's time, which other programs do not disturb; with several it is the
    wall's, since what runs on one of them alone keeps the others waiting.

    Raises:
        CannotTimeError: torch has no way to wait for such a device, or must not wait now.
    """
    if torch.compiler.is_compiling() or (device.type == "cuda" and torch.cuda.is_current_stream_capturing()):
        raise CannotTimeError("inside a compiled call or a captured graph")
    if device.type == "cpu":
        return time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    synchronise = getattr(getattr(torch, device.type, None), "synchronize", None)
    if synchronise is None:
        raise CannotTimeError(f"on a device of type {device.type}, which torch cannot wait for")
    return partial(_wait, partial(synchronise, device) if device.type in ("cuda", "xpu") else synchronise)


def _wait(synchronise: Callable[[], object]) -> float:
    synchronise()
    return time.perf_counter()
