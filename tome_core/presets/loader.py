"""From a word to a `SpeedConfig`: one JSON file a preset beside this one, and what is done with it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from numbers import Real
from pathlib import Path
from typing import Any, Final

from ..speed.config import SpeedConfig

PRESETS: Final = ("off", "gentle", "balanced", "fast")
"""The words, from what changes a picture least to what saves most."""

_FOLDER: Final = Path(__file__).parent
_RATIOS: Final = ("ratio", "cross_attention_ratio", "mlp_ratio", "kv_ratio")


@dataclass(frozen=True)
class Preset:
    """What a word stands for.

    Attributes:
        help: one sentence for an artist: what it is for and what it costs.
        settings: fields of `SpeedConfig`, for any model; what is not named keeps its default.
        families: by model family, the fields that differ there.
        source: what the figures rest on, and what is not verified.
    """

    help: str
    settings: Mapping[str, Any]
    families: Mapping[str, Mapping[str, Any]]
    source: str


@cache
def read_preset(word: str) -> Preset:
    """Return the preset of a word. Raises `ValueError` for a word that is none of `PRESETS`."""
    if word not in PRESETS:
        raise ValueError(f"preset must be one of {PRESETS}, got {word!r}")
    return Preset(**json.loads((_FOLDER / f"{word}.json").read_text("utf-8")))


def speed_preset(word: str, family: str | None = None, strength: float = 1.0) -> SpeedConfig:
    """Return the settings of a preset.

    Args:
        word: one of `PRESETS`.
        family: of the model, such as "sd1" or "sdxl": where attention is differs between them. None, or one for which
            a preset has nothing of its own, takes what every model with attention can do.
        strength: 0 to 1, a factor for every ratio. 0 is neutral, 1 the preset as it is written. More is refused: no
            help sentence speaks of it; ratios beyond a preset are set by hand.

    Raises:
        ValueError: the word is no preset, or the strength out of bounds.
    """
    preset = read_preset(word)
    # NaN compares false
    if not isinstance(strength, Real) or isinstance(strength, bool) or not 0 <= float(strength) <= 1:
        raise ValueError(f"strength must be a number from 0 to 1, got {strength!r}")
    settings = {**preset.settings, **preset.families.get(family or "", {})}
    scaled = {name: settings[name] * float(strength) for name in _RATIOS if name in settings}
    return SpeedConfig(**(settings | scaled))
