"""What a comparison found, as tables and as JSON-able values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from ..clock import Spread
from ..drawing.method import Method
from ..suites import Case
from .figures import MethodFigures, Readings, Role, method_figures
from .gate import Gate
from .tables import markdown

_STATISTICS: Final = {
    "interval": "95 %, percentile bootstrap, 10,000 resamples of whole prompts",
    "test": "paired permutation test: methods exchanged within prompts, 10,000 times, two-sided, uncorrected",
}


@dataclass(frozen=True)
class Entry:
    """A method and the part that it plays."""

    method: Method
    role: Role


@dataclass(frozen=True)
class QualityReport:
    """Readings and times of every method, in the order of `entries`, the untouched pictures first.

    setting: what was asked for and on what, as JSON-able values.
    gate: None where no figure is of binding.
    """

    setting: Mapping[str, Any]
    entries: Sequence[Entry]
    cases: Sequence[Case]
    readings: Sequence[Readings]
    times: Sequence[Spread]
    gate: Gate | None

    @cached_property
    def figures(self) -> list[MethodFigures]:
        """The figures of every method."""
        columns = zip(self.entries, self.readings, self.times, strict=True)
        return [
            method_figures(entry.method.name, entry.role, self.cases, readings, self.readings[0], time)
            for entry, readings, time in columns
        ]

    @property
    def title(self) -> str:
        """What was compared on what, in one line."""
        suite, settings = self.setting["suite"], self.setting["settings"]
        name = suite["name"] if suite["split"] is None else f"{suite['name']}, {suite['split']}"
        return (
            f"{name}: {suite['prompts']} prompts x {suite['seeds']} seeds, "
            f"{settings['size']} pixels, {settings['steps']} steps, weights {self.setting['model']['weights'][:8]}"
        )

    @cached_property
    def text(self) -> str:
        """The tables, what must be said beside them, and how they were made."""
        untaught = self.setting["suite"]["untaught"]
        limits = [f"The weights of this package were not taught {untaught}."] if untaught else []
        if not self.setting["suite"]["judged"]:
            limits.append("Nothing judges these pictures: whether they are better is for eyes to tell.")
        how = f"Intervals: {_STATISTICS['interval']}. p: {_STATISTICS['test']}."
        return "\n\n".join([self.title, markdown(self.figures, self.gate), *limits, how])

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        fair = self.gate.passes if self.gate is not None and self.gate.outcomes else None  # None: nobody knows
        return {
            **self.setting,
            "statistics": _STATISTICS,
            "gate": None if self.gate is None else self.gate.as_dict(),
            "methods": [figures.as_dict() | {"fair_bed": fair} for figures in self.figures],
        }
