"""The binding gate: is this model a fair bed on which to try what merging does to binding?

Merging the rows of a prompt can only help a model that reads attributes from them the way Stable Diffusion does. Hu et
al. 2024 show that by pictures (figure 2, appendix C.3): from the noun's row alone, from the end rows alone, and from
the sum of the attribute's and the noun's row, the attribute must still appear.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..drawing.runner import Runner
from ..judge import judge
from ..methods.rows import SeenRows, added_row, end_rows, noun_row
from ..suites import Case, singles
from .figures import tally_all
from .statistics import Interval, interval

PICTURES: Final = 210
"""Pictures of each test: every colour and shape seven times."""


class PictureTest(NamedTuple):
    """One of the three: which rows are seen, how often the attribute must appear, and how often it did in the paper."""

    method: SeenRows
    least: float
    paper: float  # Hu et al. 2024, on SDXL


TESTS: Final = (
    PictureTest(SeenRows("noun row only", noun_row), 0.60, 0.696),
    PictureTest(SeenRows("end rows only", end_rows), 0.60, 0.750),
    PictureTest(SeenRows("added row", added_row), 0.50, 0.686),
)


@dataclass(frozen=True)
class GateOutcome:
    """How often the attribute appeared in one test, as a fraction, with its interval by prompt."""

    test: PictureTest
    pictures: int
    share: float
    interval: Interval | None

    @property
    def passes(self) -> bool:
        """Whether the attribute appeared often enough."""
        return self.share >= self.test.least

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        test = {"test": self.test.method.name, "least": self.test.least, "paper": self.test.paper}
        found = {"attribute": self.share, "interval": self.interval, "passes": self.passes}
        return test | {"pictures": self.pictures} | found


@dataclass(frozen=True)
class Gate:
    """The outcome of all tests; without any, the gate was not run, and nothing is known."""

    outcomes: tuple[GateOutcome, ...]

    @property
    def passes(self) -> bool:
        """Whether every test was run and passed."""
        return bool(self.outcomes) and all(outcome.passes for outcome in self.outcomes)

    @property
    def sentence(self) -> str:
        """What must be said beside every binding figure."""
        if not self.outcomes:
            return "No fair bed for merging as far as is known: the binding gate was not run"
        shares = ", ".join(f"{x.test.method.name} {x.share:.0%} (needs {x.test.least:.0%})" for x in self.outcomes)
        verdict = "This model is a fair" if self.passes else "This model is no fair"
        return f"{verdict} bed for merging. The attribute appears with {shares}"

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        tests = [outcome.as_dict() for outcome in self.outcomes]
        return {"run": bool(tests), "passes": self.passes, "sentence": self.sentence, "tests": tests}


def missing_in_gate(runner: Runner, pictures: int) -> int:
    """Return how many pictures of the three tests are not drawn yet."""
    return sum(len(batch) for test in TESTS for batch in runner.missing(test.method, singles(pictures)))


def run_gate(runner: Runner, pictures: int, on_drawn: Callable[[int], object] = lambda _: None) -> Gate:
    """Draw what is missing of the three tests, and return their outcome."""
    cases = singles(pictures)
    for test in TESTS:
        runner.draw(test.method, cases, on_drawn)
    return Gate(tuple(_outcome(test, cases, runner) for test in TESTS))


def attribute_hits(cases: Sequence[Case], pictures: Sequence[NDArray[np.uint8]]) -> list[bool]:
    """Return for each picture whether any object has the colour that its case wants for its one object."""
    seen = [{found.colour for found in judge(picture)} for picture in pictures]
    return [case.wanted[0][0] in colours for case, colours in zip(cases, seen, strict=True)]


def _outcome(test: PictureTest, cases: Sequence[Case], runner: Runner) -> GateOutcome:
    hits = attribute_hits(cases, [drawn.pictures[0] for drawn in runner.load(test.method, cases)])
    tally = tally_all({"attribute": lambda hit: (hit, 1)}, cases, hits)["attribute"]
    return GateOutcome(test, len(hits), float(np.mean(hits)), interval(tally))
