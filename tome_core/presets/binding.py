"""From a word to a `BindingConfig`: what is in binding.json beside this file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from ..binding.config import BindingConfig

BINDING_PRESETS: Final = ("paper", "gentle", "objects", "attributes")
"""The words, the config's own defaults first."""


@dataclass(frozen=True)
class BindingPreset:
    """What a word stands for.

    Attributes:
        help: one sentence for an artist: what it is for and what it costs.
        settings: fields of `BindingConfig`; what is not named keeps its default.
        source: what it follows, and what is not verified.
    """

    help: str
    settings: Mapping[str, Any]
    source: str


@cache
def read_binding_preset(word: str) -> BindingPreset:
    """Return the preset of a word. Raises `ValueError` for a word that is none of `BINDING_PRESETS`."""
    if word not in BINDING_PRESETS:
        raise ValueError(f"preset must be one of {BINDING_PRESETS}, got {word!r}")
    return BindingPreset(**json.loads(Path(__file__).with_name("binding.json").read_text("utf-8"))[word])


def binding_preset(word: str, strength: float = 1.0) -> BindingConfig:
    """Return the settings of a preset, at a strength from 0, which is neutral, to 1.

    Raises:
        ValueError: the word is no preset, or the strength out of bounds.
    """
    return BindingConfig(**{**read_binding_preset(word).settings, "strength": strength})
