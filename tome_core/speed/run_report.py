"""The report of one sampling run, beside that of the clone that has many: what its runs did, together."""

from .call_times import CallTimes
from .level_report import LevelReport
from .report import SpeedReport


def report_like(report: SpeedReport) -> SpeedReport:
    """Return a report of the same model and config, in which no call has been yet; the notes so far stay."""
    levels = tuple(LevelReport(x.level, x.downsample, x.blocks, x.chosen) for x in report.levels)
    return SpeedReport(report.model, report.config, report.metric, levels, list(report.notes), costs=report.costs)


def add_run(report: SpeedReport, run: SpeedReport) -> None:
    """Add what a run did to the report of all; of a size that both know, what the run knows is newer."""
    report.merged_calls += run.merged_calls
    report.untouched_calls += run.untouched_calls
    report.blind_calls += run.blind_calls
    for level, newer in zip(report.levels, run.levels, strict=True):
        level.verdicts |= newer.verdicts
        for grid, kept in newer.kept.items():
            level.kept.setdefault(grid, {}).update(kept)
    for sentence in run.notes:
        report.note(sentence)
    for size, times in run.call_times.items():
        report.call_times.setdefault(size, CallTimes()).update(times)
