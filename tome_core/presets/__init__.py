"""Settings for one word. They follow what is published and measured, and say so.

Speed: off, gentle, balanced, fast. Binding: paper, gentle, objects, attributes.
"""

from .loader import (
    BINDING_PRESETS,
    SPEED_PRESETS,
    Preset,
    System,
    binding_preset,
    read_preset,
    read_presets,
    speed_preset,
)

__all__ = [
    "BINDING_PRESETS",
    "SPEED_PRESETS",
    "Preset",
    "System",
    "binding_preset",
    "read_preset",
    "read_presets",
    "speed_preset",
]
