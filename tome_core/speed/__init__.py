"""Token Merging for Fast Stable Diffusion: what to merge (`SpeedConfig`), and the doors that do it to a model."""

from typing import TYPE_CHECKING

from ..lazy import importer

if TYPE_CHECKING:
    from .config import SpeedConfig
    from .doors.diffusers import apply_speed
    from .doors.modules import SpeedHandle, apply_speed_to_module
    from .plans.making import Matcher
    from .report import LevelReport, SpeedReport

__all__ = [
    "LevelReport",
    "Matcher",
    "SpeedConfig",
    "SpeedHandle",
    "SpeedReport",
    "apply_speed",
    "apply_speed_to_module",
]

__getattr__ = importer(
    __name__,
    {
        "config": ("SpeedConfig",),
        "doors.diffusers": ("apply_speed",),
        "doors.modules": ("SpeedHandle", "apply_speed_to_module"),
        "plans.making": ("Matcher",),
        "report": ("LevelReport", "SpeedReport"),
    },
)
