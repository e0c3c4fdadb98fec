"""The configurations that a checkpoint in original layout leaves out: one JSON file a family, in diffusers' terms."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .family import Family
from .tokenizer import END, OPEN_CLIP_PAD, clip_tokenizer

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

Configs = Mapping[str, Mapping[str, Any]]
"""Component -> its configuration: "unet", "vae", "text_encoder", "scheduler", and "text_encoder_2" makes it SDXL.

The scheduler's "_class_name" names a diffusers scheduler; without it, DDIMScheduler."""

_FOLDER: Final = Path(__file__).parent / "configs"
_TEXT_ENCODERS: Final = ("text_encoder", "text_encoder_2")


def read_configs(family: Family) -> Configs:
    """Return the configurations of a published family."""
    return json.loads((_FOLDER / f"{family}.json").read_text("utf-8"))


def text_encoders(configs: Configs) -> list[str]:
    """Return the names of the text encoders: one for Stable Diffusion 1 and 2, two for SDXL."""
    return [name for name in _TEXT_ENCODERS if name in configs]


def is_xl(configs: Configs) -> bool:
    """Return whether these are the configurations of an SDXL pipeline, told from its second text encoder."""
    return len(text_encoders(configs)) > 1


def is_open_clip(config: Mapping[str, Any]) -> bool:
    """Return whether a text encoder is OpenCLIP's, told from its activation: OpenAI's CLIP alone has quick_gelu."""
    return config.get("hidden_act", "quick_gelu") != "quick_gelu"


def tokenizer_of(text_encoder: str) -> str:
    """Return the name that a pipeline gives to the tokenizer of that text encoder."""
    return text_encoder.replace("text_encoder", "tokenizer")


def tokenizers(configs: Configs) -> dict[str, CLIPTokenizer]:
    """Return "tokenizer" (and "tokenizer_2"), one for each text encoder, padding as it was taught."""
    return {
        tokenizer_of(name): clip_tokenizer(pad=OPEN_CLIP_PAD if is_open_clip(configs[name]) else END)
        for name in text_encoders(configs)
    }
