"""A `SpeedReport` in a few lines, for a node or a panel: what will be merged before a run, what was after it."""

from .level_report import Grid, LevelReport
from .report import SpeedReport
from .sentences import ratios_of, times_sentence


def expectation(report: SpeedReport) -> str:
    """Return what a patch will do, before its first call; where it does nothing, why."""
    config = report.config
    if config.is_neutral:
        return "Off: the model stays untouched."
    blocks = sum(level.blocks for level in report.levels)
    chosen = [level for level in report.levels if level.chosen]
    where = ", ".join(f"level {level.level} ({level.blocks} of {blocks} blocks)" for level in chosen)
    when = "" if _is_whole_run(report) else f", from {config.start_percent:.0%} to {config.end_percent:.0%} of the run"
    return _lines([f"Will merge {ratios_of(config)} at {where}{when}."], report)


def result(report: SpeedReport) -> str:
    """Return what merging did in the calls that the report has seen, and what it saved."""
    calls = report.merged_calls + report.untouched_calls
    if report.merged_calls == 0:
        return _lines([f"Nothing merged in {calls} calls of the model."], report)
    found = [f"Merged in {report.merged_calls} of {calls} calls of the model."]
    for level in report.levels:
        found += [f"{_tokens(level, grid)}{_saved(report, level, grid)}" for grid in level.kept]
    found += [sentence for size, times in report.call_times.items() for sentence in times_sentence(size, times)]
    return _lines(found, report)


def _is_whole_run(report: SpeedReport) -> bool:
    return (report.config.start_percent, report.config.end_percent) == (0.0, 1.0)


def _tokens(level: LevelReport, grid: Grid) -> str:
    """Return such as "Level 1 (5 blocks), 4096 tokens: attention on 3072 (-25%), keys on 2048 (-50%)"."""
    tokens = grid[0] * grid[1]
    parts = [f"{part} on {kept} ({kept / tokens - 1:+.0%})" for part, kept in level.kept[grid].items() if kept < tokens]
    told = ", ".join(parts) or "nothing to merge at this size"
    return f"Level {level.level} ({level.blocks} blocks), {tokens} tokens: {told}"


def _saved(report: SpeedReport, level: LevelReport, grid: Grid) -> str:
    saving = report.savings(level.level).get(grid)
    if saving is None or saving.untouched.flops == 0:
        return ""
    return f", {1 - saving.merged.flops / saving.untouched.flops:.0%} of their work saved"


def _lines(sentences: list[str], report: SpeedReport) -> str:
    return "\n".join([*sentences, *(f"Note: {note}." for note in report.notes)])
