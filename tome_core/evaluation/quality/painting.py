"""Many pictures by one method: what is not in the store is drawn, in batches and in several processes."""

import signal
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import import_module
from multiprocessing import get_context
from typing import Final

import torch

from ..cases import Case
from ..sampling import Drawn, Settings
from .method import Method
from .model import AnyModel
from .store import Store, key_of

BATCH: Final = 8
"""Pictures denoised together. Batches are cut from the whole list of cases and not from what is missing of it, so that
a run that was killed goes on with the very batches it would have drawn: rounding differs between batches of different
sizes."""


@dataclass(frozen=True)
class Easel:
    """All that a picture depends on beside method and case, where it is kept, and how many are denoised together."""

    model: AnyModel
    settings: Settings
    store: Store
    batch: int = BATCH

    def key(self, method: Method, case: Case) -> str:
        """Return the picture's key in the store."""
        told = {"model": self.model.identity, "settings": asdict(self.settings)}
        return key_of(told | {"method": dict(method.identity), "case": asdict(case)})

    def load(self, method: Method, case: Case) -> Drawn:
        """Return a picture that is in the store."""
        return self.store.load(self.key(method, case))

    def missing(self, method: Method, cases: Sequence[Case]) -> list[list[Case]]:
        """Return the batches of which a picture is not in the store."""
        batches = [list(cases[start : start + self.batch]) for start in range(0, len(cases), self.batch)]
        return [batch for batch in batches if any(self.key(method, case) not in self.store for case in batch)]

    def left(self, method: Method, cases: Sequence[Case]) -> int:
        """Return how many pictures are yet to be drawn, whole batches counted."""
        return sum(map(len, self.missing(method, cases)))


class Painter:
    """Draws what is missing. With one process in this one, else in that many, of one thread each, which is faster.

    To be used with `with`. What an interrupt cuts off is lost by no more than the batches in work.
    """

    def __init__(self, easel: Easel, processes: int) -> None:
        self.easel = easel
        self._processes = processes

    def __enter__(self) -> "Painter":
        return self

    def __exit__(self, *error: object) -> None:
        if "_pool" in vars(self):
            self._pool.shutdown(cancel_futures=True)

    def paint(self, method: Method, cases: Sequence[Case], on_drawn: Callable[[int], object]) -> None:
        """Put the pictures of all cases into the store; `on_drawn` is told how many of the missing are done."""
        batches = self.easel.missing(method, cases)
        if self._processes == 1:
            for batch in batches:
                _paint(self.easel, method, batch)
                on_drawn(len(batch))
            return
        jobs = {self._pool.submit(_paint, self.easel, method, batch): len(batch) for batch in batches}
        for job in as_completed(jobs):
            job.result()
            on_drawn(jobs[job])

    @cached_property
    def _pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self._processes, get_context("spawn"), _start)


def _start() -> None:
    """Prepare a process: an interrupt in the terminal reaches it too, but its batch shall be finished and kept."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # the process that asked tells them all
    for library in ("diffusers", "transformers"):
        logging = import_module(f"{library}.utils.logging")
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def _paint(easel: Easel, method: Method, cases: list[Case]) -> None:
    drawn = method.draw(easel.model.open(), cases, easel.settings)
    for index, case in enumerate(cases):
        easel.store.save(easel.key(method, case), drawn, index)
