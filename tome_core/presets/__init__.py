"""Settings for one word. The suite's own follow what is published and measured, and say so; users save theirs.

Speed: off, gentle, balanced, fast. Binding: paper, gentle, objects, attributes.
"""

from .file import SYSTEMS, Preset, System
from .loader import binding_preset, scaled_speed, speed_preset
from .words import (
    BINDING_PRESETS,
    SPEED_PRESETS,
    UserPreset,
    delete_preset,
    normal_word,
    preset_words,
    read_preset,
    save_preset,
    user_folder,
    user_presets,
)

__all__ = [
    "BINDING_PRESETS",
    "SPEED_PRESETS",
    "SYSTEMS",
    "Preset",
    "System",
    "UserPreset",
    "binding_preset",
    "delete_preset",
    "normal_word",
    "preset_words",
    "read_preset",
    "save_preset",
    "scaled_speed",
    "speed_preset",
    "user_folder",
    "user_presets",
]
