"""What can be said of merging in a UNet before its first call."""

from .config import WHOLE, SpeedConfig
from .level_report import LevelReport
from .levels import Level
from .report import SpeedReport


def new_report(
    model: str, levels: tuple[Level, ...], config: SpeedConfig, *, text_reaches_first_block: bool
) -> SpeedReport:
    """Return the report of a model before its first call, with all that can be said by then.

    Args:
        model: the name of its class.
        levels: those of the model.
        config: what was asked for.
        text_reaches_first_block: whether its time embedding carries text or a class, as SDXL's carries pooled text.

    Raises:
        ValueError: the config names a level that the model lacks.
    """
    numbers = tuple(level.number for level in levels)
    if not set(config.levels) <= set(numbers):
        raise ValueError(f"levels must be among {numbers} on this {model}, got {config.levels}")
    metric = "stem" if config.metric == "first_block" and text_reaches_first_block else config.metric
    rows = [LevelReport(x.number, x.downsample, len(x.blocks), x.number in config.levels) for x in levels]
    report = SpeedReport(model, config, metric, tuple(rows))
    if metric != config.metric:
        report.note("metric first_block would see the text on this model (in its time embedding): stem is used instead")
    present = {part for level in levels if level.number in config.levels for part in level.parts}
    for part in config.parts:
        if part not in present and part not in WHOLE:
            report.note(f"{part} has no effect: the blocks of the chosen levels have {', '.join(sorted(present))} only")
    return report
