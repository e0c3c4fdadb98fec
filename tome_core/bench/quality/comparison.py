"""One comparison: the same cases drawn by every method, read beside the untouched pictures, and timed in turn."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import torch

from ..clock import Clock, Spread, describe
from ..drawing.method import BASELINE, LeftOutError, Method
from ..drawing.runner import Runner, key_of
from ..methods.binding import Binding, count_listed
from ..methods.controls import CONTROLS
from ..suites import Case, Split, Suite
from .figures import MethodFigures, Reader, Readings, Role, method_figures
from .gate import PICTURES, Gate, missing_in_gate, run_gate
from .tables import markdown

_STATISTICS: Final = {
    "interval": "95 %, percentile bootstrap, 10,000 resamples of whole prompts",
    "test": "paired permutation test: methods exchanged within prompts, 10,000 times or in all ways if fewer, "
    "two-sided, uncorrected",
}
_LOGGER: Final = logging.getLogger(__name__)

Progress = Callable[[int, str], AbstractContextManager[Any]]
"""From a number of steps and what they are to a bar whose `update(steps)` moves it on."""


class Entry(NamedTuple):
    """A method and the part that it plays."""

    method: Method
    role: Role


@dataclass(frozen=True)
class QualityReport:
    """Readings and times of every method, in the order of `entries`, the untouched pictures first."""

    setting: Mapping[str, Any]  # what was asked for and on what, as JSON-able values
    entries: Sequence[Entry]
    cases: Sequence[Case]
    readings: Sequence[Readings]
    times: Sequence[Spread]
    gate: Gate | None  # None where no figure is of binding

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
        how = f"{settings['size']} pixels, {settings['steps']} steps, weights {self.setting['model']['weights'][:8]}"
        return f"{name}: {suite['prompts']} prompts x {suite['seeds']} seeds, {how}"

    @cached_property
    def text(self) -> str:
        """The tables, what must be said beside them, and how they were made."""
        untaught = self.setting["suite"]["untaught"]
        limits = [f"The weights of this package were not taught {untaught}."] if untaught else []
        if not self.setting["suite"]["judged"]:
            limits.append("Nothing judges these pictures: look at them to see whether they are better.")
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


@dataclass(frozen=True)
class QualityComparison:
    """What to compare: methods beside the untouched pictures, on so many pictures of the first prompts of a suite."""

    methods: Sequence[Method]
    suite: Suite
    split: Split
    prompts: int
    seeds: int
    runner: Runner
    rounds: int = 3  # of timing
    with_gate: bool = True  # where there are binding figures

    @cached_property
    def cases(self) -> list[Case]:
        """The pictures to make. Raises ValueError for more prompts than the suite has."""
        return self.suite.cases(self.split, self.prompts, self.seeds)

    @property
    def is_judged(self) -> bool:
        """Whether the judge reads the pictures."""
        return self.suite.judged and self.runner.model.is_demo

    def measure(self, progress: Progress) -> QualityReport:
        """Try each method in one step, draw what is missing, read all of it, and time the methods.

        An interrupt loses no more than the batches in work. Raises `UserError` for what a user can put right.
        """
        model = self.runner.model
        reader = Reader(model.path if model.is_demo else None, judged=self.is_judged)
        entries, left_out = self._line_up()
        binds = self.suite.binds and self.is_judged
        gate = self._draw(entries, PICTURES if binds and self.with_gate else 0, progress)
        with progress(len(entries) * len(self.cases), "reading") as bar:
            readings = [self._read(entry, reader, bar.update) for entry in entries]
        clock, machine = Clock(torch.device(model.device)), describe(torch.device(model.device))
        with progress(len(entries) * self.rounds, "timing") as bar:
            times = self.time([entry.method for entry in entries], clock, machine, bar.update)
        setting = {"machine": machine, "clock": clock.name, "left_out": left_out, **self._setting()}
        return QualityReport(setting, entries, self.cases, readings, times, gate if binds else None)

    def _line_up(self) -> tuple[list[Entry], list[dict[str, str]]]:
        """Return who takes part, after one step of each, and what was left out and why."""
        entries, left_out = [Entry(BASELINE, "baseline")], []
        if self.suite.binds and self.runner.model.is_demo:
            entries += [Entry(control, "control") for control in CONTROLS]
        pipeline = self.runner.model.open()
        for method in self.methods:
            fitted = method.fitted(pipeline.unet)
            try:
                for sentence in fitted.try_out(pipeline, self.cases, self.runner.settings):
                    _LOGGER.warning("%s: %s", method.name, sentence)
                entries.append(Entry(fitted, "method"))
            except LeftOutError as reason:
                left_out.append({"method": method.name, "reason": str(reason)})
                _LOGGER.warning("%s is left out: %s", method.name, reason)
        return entries, left_out

    def _draw(self, entries: Sequence[Entry], gate_pictures: int, progress: Progress) -> Gate:
        """Draw what is missing for the comparison and for the gate, and return the gate's outcome."""
        total = sum(len(batch) for entry in entries for batch in self.runner.missing(entry.method, self.cases))
        total += missing_in_gate(self.runner, gate_pictures) if gate_pictures else 0
        with progress(total, "drawing") as bar:
            for entry in entries:
                self.runner.draw(entry.method, self.cases, bar.update)
            return run_gate(self.runner, gate_pictures, bar.update) if gate_pictures else Gate(())

    def _read(self, entry: Entry, reader: Reader, on_read: Callable[[int], object]) -> Readings:
        """Return what is read off a method's pictures, each beside the untouched one."""
        scores, fidelities = [], []
        pictures = (self.runner.load(method, self.cases) for method in (entry.method, BASELINE))
        for case, drawn, untouched in zip(self.cases, *pictures, strict=True):
            scores.append(reader.score(case, drawn))
            if entry.role != "baseline":
                fidelities.append(reader.fidelity(drawn, untouched))
            on_read(1)
        return Readings([score for score in scores if score is not None], fidelities)

    def time(
        self, methods: Sequence[Method], clock: Clock, machine: dict[str, Any], on_drawn: Callable[[int], object]
    ) -> list[Spread]:
        """Return each method's time for one picture over that of the first method, from some rounds.

        The same methods, settings and machine are timed once for a number of rounds, so that a table stays.
        """
        runner, case = self.runner, self.cases[0]

        def seconds(method: Method) -> float:
            pipeline, start = runner.model.open(), clock()
            method.draw(pipeline, [case], runner.settings)
            on_drawn(1)
            return clock.figure(clock() - start)

        def ratios() -> list[list[float]]:
            times = [[seconds(method) for method in methods] for _ in range(self.rounds)]
            return [[row[i] / row[0] for row in times] for i in range(len(methods))]

        what = {"model": runner.model.identity, "settings": asdict(runner.settings), "machine": machine}
        what |= {"case": asdict(case), "rounds": self.rounds, "methods": [method.identity for method in methods]}
        return [Spread.of(row) for row in runner.remember(key_of(what), ratios)]

    def _setting(self) -> dict[str, Any]:
        """Return what was asked for, as JSON-able values; say in how many prompts no parser says what binding binds."""
        suite, model = self.suite, self.runner.model
        about = {name: getattr(suite, name) for name in ("name", "about", "attribute", "untaught")}
        asked = {"split": None if suite.is_file else self.split, "prompts": self.prompts, "seeds": self.seeds}
        setting = {
            "model": {"checkpoint": model.path.name, **model.identity},
            "settings": asdict(self.runner.settings),
            "suite": {**about, "judged": self.is_judged, **asked},
        }
        if not any(isinstance(method, Binding) and method.config is not None for method in self.methods):
            return setting
        listed, prompts = count_listed(self.cases)
        if listed:
            sentence = "the groups of %d of %d prompts are listed by their suite: the parser reads these otherwise"
            _LOGGER.warning(sentence, listed, prompts)
        return setting | {"listed_prompts": listed}
