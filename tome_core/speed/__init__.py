"""Token Merging for Fast Stable Diffusion: what to merge (`SpeedConfig`), and the doors that do it to a model."""

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
