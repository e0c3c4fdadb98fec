"""From a word to a config, at a strength and for a family of models."""

import warnings
from dataclasses import replace
from numbers import Real
from typing import Final

from ..binding.config import BindingConfig
from ..speed.config import SpeedConfig, without_retired
from .words import read_preset

_RATIOS: Final = ("ratio", "cross_attention_ratio", "mlp_ratio", "kv_ratio")


def speed_preset(word: str, family: str | None = None, strength: float = 1.0) -> SpeedConfig:
    """Return the settings of a preset of speed. A preset that names a setting which is gone warns of it, and loads.

    Args:
        word: one of `preset_words("speed")`.
        family: of the model, such as "sd1" or "sdxl": where attention is differs between them. None, or one for which
            a preset has nothing of its own, takes what every model with attention can do.
        strength: 0 to 1, a factor for every ratio. 0 is neutral, 1 the preset as it is written. More is refused: no
            help sentence speaks of it; ratios beyond a preset are set by hand.

    Raises:
        ValueError: in one line, the word is no preset, its file is refused, or the strength is out of bounds.
    """
    preset, factor = read_preset("speed", word), _factor(strength)
    settings, gone = without_retired({**preset.settings, **preset.families.get(family or "", {})})
    for sentence in gone:
        warnings.warn(f"preset {word}: {sentence}", stacklevel=2)
    return scaled_speed(SpeedConfig(**settings), factor)


def scaled_speed(config: SpeedConfig, strength: float) -> SpeedConfig:
    """Return a config at a strength from 0, which is neutral, to 1. Raises `ValueError` for one out of bounds."""
    factor = _factor(strength)
    ratios = {name: getattr(config, name) for name in _RATIOS}
    scaled = {name: ratio * factor for name, ratio in ratios.items() if ratio is not None}
    if factor == 0:
        scaled["kv_downsample"] = 1  # the one merging that goes by no ratio
    return replace(config, **scaled)


def binding_preset(word: str, strength: float = 1.0) -> BindingConfig:
    """Return the settings of a preset of binding.

    Args:
        word: one of `preset_words("binding")`.
        strength: 0 to 1, a factor for the preset's own strength. 0 is neutral, 1 the preset as it is written.

    Raises:
        ValueError: in one line, the word is no preset, its file is refused, or the strength is out of bounds.
    """
    config, factor = BindingConfig(**read_preset("binding", word).settings), _factor(strength)
    return replace(config, strength=config.strength * factor)


def _factor(strength: object) -> float:
    # NaN compares false
    if not isinstance(strength, Real) or isinstance(strength, bool) or not 0 <= float(strength) <= 1:
        raise ValueError(f"strength must be a number from 0 to 1, got {strength!r}")
    return float(strength)
