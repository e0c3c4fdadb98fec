"""The binding gate: is this model a fair bed on which to try what merging does to binding?

Merging the rows of a prompt can only help a model that reads attributes from them the way Stable Diffusion does. Hu et
al. 2024 show that by pictures (figure 2, appendix C.3), and so does this: from the noun's row alone, from the end rows
alone, and from the sum of the attribute's and the noun's row, the attribute must still appear.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .. import cases as cases_module
from .. import sampling
from ..cases import Case, RowsOf, added_row, end_rows, noun_row, singles
from ..judge import judge
from ..sampling import Drawn, Settings, draw_from_rows
from .method import Method, sources
from .painting import Painter
from .statistics import Interval, Tally, interval

PICTURES: Final = 210
"""Pictures of each test: every colour and shape seven times."""


@dataclass(frozen=True)
class PictureTest:
    """One of the three: which rows are seen, how often the attribute must appear, and how often it did in the paper."""

    name: str
    rows_of: RowsOf
    least: float
    paper: float  # Hu et al. 2024, on SDXL

    @property
    def method(self) -> Method:
        """The test as a way to draw."""
        code = sources(__file__, cases_module.__file__, sampling.__file__)
        return Method(self.name, {"rows": self.name, "code": code}, partial(draw_rows, self.rows_of))


TESTS: Final = (
    PictureTest("noun row only", noun_row, 0.60, 0.696),
    PictureTest("end rows only", end_rows, 0.60, 0.750),
    PictureTest("added row", added_row, 0.50, 0.686),
)


@dataclass(frozen=True)
class Passed:
    """How often the attribute appeared in one test, as a fraction, with its interval by prompt."""

    test: PictureTest
    pictures: int
    share: float
    interval: Interval | None

    @property
    def passes(self) -> bool:
        """Whether the attribute appeared often enough."""
        return self.share >= self.test.least


@dataclass(frozen=True)
class Gate:
    """The outcome of all tests; without any, the gate was not run, and nothing is known."""

    outcomes: tuple[Passed, ...]

    @property
    def passes(self) -> bool:
        """Whether every test was run and passed."""
        return bool(self.outcomes) and all(outcome.passes for outcome in self.outcomes)

    @property
    def sentence(self) -> str:
        """What must be said beside every binding figure."""
        if not self.outcomes:
            return "No fair bed for merging as far as is known: the binding gate was not run"
        told = ", ".join(f"{x.test.name} {x.share:.0%} (needs {x.test.least:.0%})" for x in self.outcomes)
        verdict = "This model is a fair" if self.passes else "This model is no fair"
        return f"{verdict} bed for merging. The attribute appears with {told}"

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        tests = [
            {
                "test": x.test.name,
                "pictures": x.pictures,
                "attribute": x.share,
                "interval": x.interval,
                "least": x.test.least,
                "paper": x.test.paper,
                "passes": x.passes,
            }
            for x in self.outcomes
        ]
        return {"run": bool(tests), "passes": self.passes, "sentence": self.sentence, "tests": tests}


def draw_rows(rows_of: RowsOf, pipeline: Any, cases: Sequence[Case], settings: Settings) -> Drawn:
    """Draw cases of one object under the rows that a test shows."""
    rows, keep = rows_of(pipeline, list(cases))
    return draw_from_rows(pipeline, rows, keep, [case.seed for case in cases], settings)


def missing_in_gate(painter: Painter, pictures: int) -> int:
    """Return how many pictures of the three tests are yet to be drawn."""
    return sum(painter.easel.left(test.method, singles(pictures)) for test in TESTS)


def run_gate(painter: Painter, pictures: int, on_drawn: Callable[[int], object]) -> Gate:
    """Draw what is missing of the three tests, and return their outcome."""
    cases = singles(pictures)
    outcomes: list[Passed] = []
    for test in TESTS:
        painter.paint(test.method, cases, on_drawn)
        hits = attribute_hits(cases, [painter.easel.load(test.method, case).pictures[0] for case in cases])
        outcomes.append(_outcome(test, cases, hits))
    return Gate(tuple(outcomes))


def attribute_hits(cases: Sequence[Case], pictures: Sequence[NDArray[np.uint8]]) -> list[bool]:
    """Tell for each picture whether any object has the colour that its case wants for its one object."""
    seen = [{found.colour for found in judge(picture).objects} for picture in pictures]
    return [case.wanted[0][0] in colours for case, colours in zip(cases, seen, strict=True)]


def _outcome(test: PictureTest, cases: Sequence[Case], hits: Sequence[bool]) -> Passed:
    prompts = list(dict.fromkeys(case.prompt for case in cases))
    over, of = np.zeros(len(prompts)), np.zeros(len(prompts))
    for case, hit in zip(cases, hits, strict=True):
        over[prompts.index(case.prompt)] += hit
        of[prompts.index(case.prompt)] += 1
    return Passed(test, len(hits), float(np.mean(hits)), interval(Tally(over, of)))
