"""Settings for one word. They follow what is published and measured, and say so.

Speed: off, gentle, balanced, fast. Binding: paper, gentle, objects, attributes.
"""

from .binding import BINDING_PRESETS, BindingPreset, binding_preset, read_binding_preset
from .loader import PRESETS, Preset, read_preset, speed_preset

__all__ = [
    "BINDING_PRESETS",
    "PRESETS",
    "BindingPreset",
    "Preset",
    "binding_preset",
    "read_binding_preset",
    "read_preset",
    "speed_preset",
]
