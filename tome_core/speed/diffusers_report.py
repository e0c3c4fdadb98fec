"""What can be said of merging in a diffusers UNet before its first call."""

from torch import nn

from .config import WHOLE, SpeedConfig
from .diffusers_layout import Level
from .level_report import LevelReport
from .report import SpeedReport


def new_report(unet: nn.Module, levels: tuple[Level, ...], config: SpeedConfig) -> SpeedReport:
    """Return the report of a model before its first call, with all that can be said by then.

    Raises:
        ValueError: the config names a level that the model lacks.
    """
    numbers = tuple(level.number for level in levels)
    if not set(config.levels) <= set(numbers):
        raise ValueError(f"levels must be among {numbers} on this {type(unet).__name__}, got {config.levels}")
    metric = "stem" if config.metric == "first_block" and _text_reaches_first_block(unet) else config.metric
    rows = [LevelReport(x.number, x.downsample, len(x.blocks), x.number in config.levels) for x in levels]
    report = SpeedReport(type(unet).__name__, config, metric, tuple(rows))
    if metric != config.metric:
        report.note("metric first_block would see the text on this model (in its time embedding): stem is used instead")
    present = {part for level in levels if level.number in config.levels for part in level.parts}
    for part in config.parts:
        if part not in present and part not in WHOLE:
            report.note(f"{part} has no effect: the blocks of the chosen levels have {', '.join(sorted(present))} only")
    return report


def _text_reaches_first_block(unet: nn.Module) -> bool:
    """Return whether the time embedding carries text or a class, as SDXL's carries pooled text."""
    return any(getattr(unet, name, None) is not None for name in ("add_embedding", "class_embedding"))
