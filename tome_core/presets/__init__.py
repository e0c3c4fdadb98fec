"""Settings for one word: off, gentle, balanced, fast. They follow what is published and measured, and say so."""

from .loader import PRESETS, Preset, read_preset, speed_preset

__all__ = ["PRESETS", "Preset", "read_preset", "speed_preset"]
