"""Many pictures by one method: drawn in batches, in several processes, and kept, so that none is drawn twice."""

import hashlib
import json
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import torch
from joblib import Memory, Parallel, delayed
from joblib.memory import CacheWarning

from ...errors import UserError
from ..suites import Case
from .method import Method
from .models import PictureModel
from .sampling import Drawn, Settings

BATCH: Final = 8
"""Pictures denoised together. Rounding differs between batches of different sizes, so a batch is kept as a whole, under
all of its cases: a run that was killed goes on with the very batches it would have drawn."""


@dataclass(frozen=True)
class Runner:
    """Draws with one model and its settings, and keeps the pictures in a folder."""

    model: PictureModel
    settings: Settings
    folder: Path
    processes: int = 1  # that draw at once, of one thread each; 1 is this process
    batch: int = BATCH

    def key(self, method: Method, cases: Sequence[Case]) -> str:
        """Return the key of a batch, made of everything that its pictures depend on."""
        identity = {"model": self.model.identity, "settings": asdict(self.settings), "method": method.identity}
        threads = 1 if self.processes > 1 else _threads(self.model)
        return key_of({**identity, "cases": [asdict(case) for case in cases], "threads": threads})

    def missing(self, method: Method, cases: Sequence[Case]) -> list[Sequence[Case]]:
        """Return the batches that are not kept yet."""
        batches = self._batches(cases)
        return [batch for batch in batches if not self._kept.check_call_in_cache(*self._job(method, batch))]

    def draw(self, method: Method, cases: Sequence[Case], on_drawn: Callable[[int], object] = lambda _: None) -> None:
        """Draw what is missing; `on_drawn` gets the number of pictures of each batch that is done.

        An interrupt loses no more than the batches in work. Raises `UserError` where pictures cannot be kept.
        """
        try:
            jobs = [self._job(method, batch) for batch in self.missing(method, cases)]
            keep = _keep if self.processes == 1 else _keep_alone
            options: Any = {"return_as": "generator_unordered", "batch_size": 1}
            parallel: Any = Parallel(self.processes, **options)
            for drawn in parallel(delayed(keep)(self._kept, job) for job in jobs):
                on_drawn(drawn)
        except BrokenExecutor as error:
            reason = "a process that draws was ended, perhaps for want of memory; fewer --processes take less"
            raise UserError(reason) from error
        except CacheWarning as error:
            raise UserError(f"cannot write into {self.folder}: {error}") from error

    def load(self, method: Method, cases: Sequence[Case]) -> Iterator[Drawn]:
        """Yield the picture of each case, alone; what is missing is drawn."""
        for batch in self._batches(cases):
            drawn = self._kept(*self._job(method, batch))
            for index in range(len(batch)):
                yield Drawn(drawn.pictures[index : index + 1], drawn.latents[index : index + 1])

    def remember(self, key: str, measure: Callable[[], Any]) -> Any:
        """Return what a function returns, which is called once for a key and then kept in the folder."""
        return self._memory.cache(_measure, ignore=["measure"])(key, measure)

    @cached_property
    def _memory(self) -> Any:
        options: Any = {"verbose": 0, "compress": 1}
        return Memory(self.folder, **options)

    @cached_property
    def _kept(self) -> Any:
        return self._memory.cache(_draw, ignore=["method", "cases", "model", "settings"])

    def _batches(self, cases: Sequence[Case]) -> list[Sequence[Case]]:
        return [cases[start : start + self.batch] for start in range(0, len(cases), self.batch)]

    def _job(self, method: Method, batch: Sequence[Case]) -> tuple[Any, ...]:
        return self.key(method, batch), method, batch, self.model, self.settings


def key_of(values: Mapping[str, Any]) -> str:
    """Return the key of JSON-able values, in whatever order they are given."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:40]


def _draw(key: str, method: Method, cases: Sequence[Case], model: PictureModel, settings: Settings) -> Drawn:
    before = torch.get_num_threads()
    torch.set_num_threads(_threads(model))
    try:
        return method.draw(model.open(), cases, settings)
    finally:
        torch.set_num_threads(before)


def _threads(model: PictureModel) -> int:
    """Return how many threads draw in this process; the demo model has one everywhere, for the same pictures."""
    return 1 if model.is_demo else torch.get_num_threads()


def _measure(key: str, measure: Callable[[], Any]) -> Any:
    return measure()


def _keep(kept: Any, job: tuple[Any, ...]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("error", CacheWarning)  # a picture that cannot be kept would be drawn again and again
        return len(kept(*job).pictures)


def _keep_alone(kept: Any, job: tuple[Any, ...]) -> int:
    """Draw in a process of its own, which leaves interrupts of the terminal and warnings to the one that asked."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for library in ("diffusers", "transformers"):
        logging = import_module(f"{library}.utils.logging")
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    return _keep(kept, job)
