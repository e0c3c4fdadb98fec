"""How long a sampling run takes, and the memory at its peak: what a node says beside what was merged."""

import time
from collections.abc import Callable
from typing import Any, Final

import psutil
import torch
from comfy.patcher_extension import WrappersMP

KEY: Final = "tome_suite_timer"


class RunTimer:
    """Times the sampling runs of one patched model.

    Args:
        device: where the model runs.
        on_end: is called after every run, also one that failed.
    """

    def __init__(self, device: torch.device, on_end: Callable[[], None] | None = None) -> None:
        self._device, self._on_end = device, on_end
        self._seconds = 0.0

    def attach(self, model: Any) -> None:
        """Time the runs of a patcher's clone, instead of an earlier node's timer."""
        model.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, KEY)
        model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, self.time_run)

    def time_run(self, executor: Any, *args: Any, **options: Any) -> Any:
        """Call on, and keep how long it took, also when it fails."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        start = time.perf_counter()
        try:
            return executor(*args, **options)
        finally:
            self._seconds = time.perf_counter() - start
            if self._on_end is not None:
                self._on_end()

    def sentence(self, calls: int = 0) -> str:
        """Return what the latest run took; `calls` is how often the model was called in it, 0 if that is not known."""
        each = f", {self._seconds / calls:.3g} s a model call" if calls else ""
        return f"This run took {self._seconds:.3g} s{each}. {self._memory()}"

    def _memory(self) -> str:
        if self._device.type == "cuda":
            return f"Peak GPU memory {torch.cuda.max_memory_allocated(self._device) / 2**30:.2f} GiB."
        used = psutil.Process().memory_info().rss / 2**30
        return f"ComfyUI uses {used:.2f} GiB of memory."  # nobody keeps its peak
