"""Token Merging for Fast Stable Diffusion: what to merge (`SpeedConfig`), and the doors that do it to a model."""

from .config import SpeedConfig
from .diffusers import SpeedHandle, apply_speed
from .report import LevelReport, SpeedReport
from .state import Matcher, SpeedState

__all__ = [
    "LevelReport",
    "Matcher",
    "SpeedConfig",
    "SpeedHandle",
    "SpeedReport",
    "SpeedState",
    "apply_speed",
]
