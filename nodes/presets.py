"""The inputs of a node that takes its settings from a word: the preset, and how much of it."""

from typing import Any

from comfy_api.latest import io

from ..tome_core.presets import System, read_presets


def preset_inputs(system: System, default: str, strength_help: str) -> list[Any]:
    """Return the choice among the presets of a system, and the slider of strength."""
    presets = read_presets(system)
    return [
        io.Combo.Input(
            "preset",
            options=list(presets),
            default=default,
            tooltip="\n".join(f"{word}: {preset.help}" for word, preset in presets.items()),
        ),
        io.Float.Input(
            "strength",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.05,
            round=0.001,
            display_mode=io.NumberDisplay.slider,
            tooltip=strength_help,
        ),
    ]
