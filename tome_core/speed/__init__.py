"""Token Merging for Fast Stable Diffusion: what to merge (`SpeedConfig`), and the doors that do it to a model."""

from .config import SpeedConfig
from .diffusers import apply_speed
from .diffusers_handle import SpeedHandle
from .guard import Curve, LevelTimes, Timings, Verdict
from .level_report import LevelReport
from .plan_making import Matcher
from .report import SpeedReport
from .state import SpeedState

__all__ = [
    "Curve",
    "LevelReport",
    "LevelTimes",
    "Matcher",
    "SpeedConfig",
    "SpeedHandle",
    "SpeedReport",
    "SpeedState",
    "Timings",
    "Verdict",
    "apply_speed",
]
