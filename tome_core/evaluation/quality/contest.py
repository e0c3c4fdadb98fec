"""One comparison: the same cases drawn by every method, and each picture read beside the untouched one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..cases import Case
from .figures import Readings, Role
from .method import BASELINE, Method
from .painting import Painter
from .readings import Reader


@dataclass(frozen=True)
class Entry:
    """A method and the part that it plays."""

    method: Method
    role: Role


@dataclass(frozen=True)
class Contest:
    """Methods that draw the same cases, the baseline first."""

    entries: tuple[Entry, ...]
    cases: Sequence[Case]

    def missing(self, painter: Painter) -> int:
        """Return how many pictures are yet to be drawn."""
        return sum(painter.easel.left(entry.method, self.cases) for entry in self.entries)

    def paint(self, painter: Painter, on_drawn: Callable[[int], object]) -> None:
        """Draw what is missing; `on_drawn` is told how many are done."""
        for entry in self.entries:
            painter.paint(entry.method, self.cases, on_drawn)

    def read(self, painter: Painter, reader: Reader, on_read: Callable[[int], object]) -> dict[str, Readings]:
        """Return what is read off each method's pictures, by its name. All of them must have been drawn."""
        return {entry.method.name: self._read(painter, entry, reader, on_read) for entry in self.entries}

    def _read(self, painter: Painter, entry: Entry, reader: Reader, on_read: Callable[[int], object]) -> Readings:
        scores, fidelities = [], []
        for case in self.cases:
            drawn = painter.easel.load(entry.method, case)
            scores.append(reader.score(case, drawn))
            if entry.role != "baseline":
                fidelities.append(reader.fidelity(drawn, painter.easel.load(BASELINE, case)))
            on_read(1)
        return Readings([score for score in scores if score is not None], fidelities)
