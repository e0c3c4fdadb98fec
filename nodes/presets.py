"""The inputs of a node that takes its settings from a word: the preset, and how much of it."""

from typing import Any

from comfy_api.latest import io

from ..tome_core.presets import BINDING_PRESETS, SPEED_PRESETS, System, preset_words, read_preset


def preset_inputs(system: System, default: str, strength_help: str) -> list[Any]:
    """Return the choice among the presets of a system, the user's too, and the slider of strength.

    The host asks for inputs anew for each page and each prompt, so a preset that is saved meanwhile is there.
    """
    own = SPEED_PRESETS if system == "speed" else BINDING_PRESETS
    lines = [f"{word}: {read_preset(system, word).help}" for word in own]  # alone: a locale holds what the tooltip says
    return [
        io.Combo.Input(
            "preset",
            options=list(preset_words(system)),
            default=default,
            tooltip="\n".join([*lines, "Further words are your own presets, from ToMe Save My Preset."]),
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


def preset_mistake(system: System, preset: Any) -> str:
    """Return why a word is no preset, or its file is refused; empty if all is well, or the word comes by wire."""
    try:
        if preset is not None:
            read_preset(system, preset)
    except ValueError as mistake:
        return str(mistake)
    return ""


def preset_fingerprint(system: System, preset: Any) -> str:
    """Return a text that changes with what a word stands for, so that a node runs again when its file has changed."""
    mistake = preset_mistake(system, preset)
    return mistake or ("" if preset is None else repr(read_preset(system, preset)))
