"""From a word to a config: a JSON file for each system beside this one, and what is done with it."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from numbers import Real
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from ..binding.config import BindingConfig
from ..speed.config import SpeedConfig, without_retired

System = Literal["speed", "binding"]

_RATIOS: Final = ("ratio", "cross_attention_ratio", "mlp_ratio", "kv_ratio")


@dataclass(frozen=True)
class Preset:
    """What a word stands for.

    Attributes:
        help: for an artist: what it is for and what it costs.
        settings: fields of the config, for any model; what is not named keeps its default.
        source: what it follows, what its figures rest on, and what is not verified.
        families: by model family, the fields that differ there.
    """

    help: str
    settings: Mapping[str, Any]
    source: str
    families: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@cache
def read_presets(system: System) -> Mapping[str, Preset]:
    """Return the presets of a system by their words, in order."""
    stored = json.loads(Path(__file__).with_name(f"{system}.json").read_text("utf-8"))
    return MappingProxyType({word: Preset(**what) for word, what in stored.items()})


SPEED_PRESETS: Final = tuple(read_presets("speed"))
"""The words of speed, from what changes a picture least to what saves most."""

BINDING_PRESETS: Final = tuple(read_presets("binding"))
"""The words of binding, the config's own defaults first."""


def read_preset(system: System, word: str) -> Preset:
    """Return one preset of a system. Raises `ValueError` for a word that is none of its words."""
    presets = read_presets(system)
    if word not in presets:
        raise ValueError(f"preset must be one of {tuple(presets)}, got {word!r}")
    return presets[word]


def speed_preset(word: str, family: str | None = None, strength: float = 1.0) -> SpeedConfig:
    """Return the settings of a preset of speed. A preset that names a setting which is gone warns of it, and loads.

    Args:
        word: one of `SPEED_PRESETS`.
        family: of the model, such as "sd1" or "sdxl": where attention is differs between them. None, or one for which
            a preset has nothing of its own, takes what every model with attention can do.
        strength: 0 to 1, a factor for every ratio. 0 is neutral, 1 the preset as it is written. More is refused: no
            help sentence speaks of it; ratios beyond a preset are set by hand.

    Raises:
        ValueError: the word is no preset, or the strength out of bounds.
    """
    preset = read_preset("speed", word)
    # NaN compares false
    if not isinstance(strength, Real) or isinstance(strength, bool) or not 0 <= float(strength) <= 1:
        raise ValueError(f"strength must be a number from 0 to 1, got {strength!r}")
    settings, gone = without_retired({**preset.settings, **preset.families.get(family or "", {})})
    for sentence in gone:
        warnings.warn(f"preset {word}: {sentence}", stacklevel=2)
    scaled = {name: settings[name] * float(strength) for name in _RATIOS if name in settings}
    return SpeedConfig(**(settings | scaled))


def binding_preset(word: str, strength: float = 1.0) -> BindingConfig:
    """Return the settings of a preset of binding, at a strength from 0, which is neutral, to 1.

    Raises:
        ValueError: the word is no preset, or the strength out of bounds.
    """
    return BindingConfig(**{**read_preset("binding", word).settings, "strength": strength})
