"""What a comparison found: told as tables, and written as JSON, markdown, a plot and a sheet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from ...evaluation.quality import Contest, Easel, Gate, Readings, Result, Spread, can_plot, markdown, plot, result
from ..console import UserError, note
from ..files import check_file, write_json, write_png, write_whole
from .contact import contact_sheet

_STATISTICS: Final = {
    "interval": "95 %, percentile bootstrap, 10,000 resamples of whole prompts",
    "test": "paired permutation test: methods exchanged within prompts, 10,000 times, two-sided, uncorrected",
}


@dataclass(frozen=True)
class Findings:
    """Readings and times of every method, in the order of the contest; `gate` None where no figure is of binding."""

    setting: Mapping[str, Any]
    contest: Contest
    readings: Mapping[str, Readings]
    times: Sequence[Spread]
    gate: Gate | None

    @cached_property
    def results(self) -> list[Result]:
        """The figures of every method."""
        untouched = self.readings[self.contest.entries[0].method.name]
        return [
            result(entry.method.name, entry.role, self.contest.cases, self.readings[entry.method.name], untouched, time)
            for entry, time in zip(self.contest.entries, self.times, strict=True)
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

    @property
    def text(self) -> str:
        """The tables, what must be said beside them, and how they were made."""
        how = f"Intervals: {_STATISTICS['interval']}. p: {_STATISTICS['test']}."
        untaught = self.setting["suite"]["untaught"]
        told = [f"The weights of this package were not taught {untaught}."] if untaught else []
        if not self.setting["suite"]["judged"]:
            told.append("Nothing judges these pictures: whether they are better is for eyes to tell.")
        return "\n\n".join([self.title, markdown(self.results, self.gate), *told, how])

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        fair = self.gate.passes if self.gate is not None and self.gate.outcomes else None  # None: nobody knows
        return {
            **self.setting,
            "statistics": _STATISTICS,
            "gate": None if self.gate is None else self.gate.as_dict(),
            "methods": [found.as_dict() | {"fair_bed": fair} for found in self.results],
        }


@dataclass(frozen=True)
class Outputs:
    """The files that were asked for; None where one was not."""

    json: Path | None
    markdown: Path | None
    plot: Path | None
    sheet: Path | None

    def check(self) -> None:
        """Raise `UserError` for a file that cannot be written or made, before any work."""
        for name, path, suffix in (
            ("json", self.json, ".json"),
            ("markdown", self.markdown, ".md"),
            ("plot", self.plot, ".png"),
            ("sheet", self.sheet, ".png"),
        ):
            if path is not None:
                check_file(path, suffix, name)
        if self.plot is not None and not can_plot():
            raise UserError("--plot needs matplotlib, which is not installed here: pip install 'tome-suite[plot]'")

    def write(self, findings: Findings, easel: Easel) -> None:
        """Write the files and name them."""
        if self.json is not None:
            write_json(self.json, findings.as_dict())
        if self.markdown is not None:
            write_whole(self.markdown, f"{findings.text}\n".encode())
        if self.plot is not None:
            write_whole(self.plot, plot(findings.results, findings.gate, findings.title))
        written = [path for path in (self.json, self.markdown, self.plot) if path is not None]
        if self.sheet is not None and (
            sheet := contact_sheet(findings.contest, easel, findings.readings, findings.title)
        ):
            write_png(self.sheet, sheet)
            written.append(self.sheet)
        elif self.sheet is not None:
            note("no sheet is written: the methods agree on which pictures are fully right")
        for path in written:
            print(f"wrote {path}")
