"""What a checkpoint's denoiser was trained to predict: the noise (epsilon) or the velocity (v_prediction).

Weights of both kinds have the same names and shapes, so a file in original layout need not tell. Salimans & Ho 2022,
section 4, defines the velocity.
"""

from __future__ import annotations

import logging
import re
from typing import Final, Literal

from safetensors import safe_open

from .family import Family
from .header import Header
from .layout import UNET_PREFIX

PredictionType = Literal["epsilon", "v_prediction"]

PREDICTION_TYPES: Final = ("epsilon", "v_prediction")
# The rule of thumb that ComfyUI uses for Stable Diffusion 2: this bias spreads wider in its 768-pixel v-models.
_TELLTALE: Final = UNET_PREFIX + "output_blocks.11.1.transformer_blocks.0.norm1.bias"
_TELLTALE_DEVIATION: Final = 0.09
_logger = logging.getLogger(__name__)


def check_prediction_type(value: str | None) -> None:
    """Raise `ValueError` unless the value is a prediction type or None."""
    if value is not None and value not in PREDICTION_TYPES:
        raise ValueError(f"prediction_type must be one of {', '.join(PREDICTION_TYPES)} or None, got {value!r}")


def find_prediction_type(header: Header, family: Family) -> PredictionType:
    """Return what the file itself says, or the yaml beside it; else epsilon, for SD2 a guess that is logged.

    Only Stable Diffusion 2 was published in both kinds, so only there is the guess worth a warning.
    """
    said = _said_by_file(header) or _said_by_yaml(header)
    if said is not None or family != "sd2":
        return said or "epsilon"
    guess: PredictionType = "v_prediction" if _spreads_like_v(header) else "epsilon"
    _logger.warning(
        "%s does not say what it predicts; taken for %s from one of its weights. "
        "If pictures are only noise or grey, it is the other one: set it with --prediction-type in `tome generate`, "
        "or with prediction_type in load_pipeline.",
        header.path.name,
        guess,
    )
    return guess


def _said_by_file(header: Header) -> PredictionType | None:
    if "v_pred" in header.shapes:  # an empty tensor that trainers of v-models add
        return "v_prediction"
    said = header.metadata.get("modelspec.prediction_type", "")
    return {"v": "v_prediction", "v_prediction": "v_prediction", "epsilon": "epsilon"}.get(said)  # type: ignore[return-value]


def _said_by_yaml(header: Header) -> PredictionType | None:
    """Read `parameterization:` in FILE.yaml, the original configuration that AUTOMATIC1111 expects beside v-models."""
    yaml = header.path.with_suffix(".yaml")
    if not yaml.is_file():
        return None
    said = re.search(r"^\s*parameterization:\s*[\"']?(\w+)", yaml.read_text("utf-8", "replace"), re.MULTILINE)
    return "v_prediction" if said and said[1] == "v" else "epsilon"


def _spreads_like_v(header: Header) -> bool:
    if _TELLTALE not in header.shapes:
        return False
    with safe_open(header.path, framework="pt") as file:
        return file.get_tensor(_TELLTALE).float().std(correction=0).item() > _TELLTALE_DEVIATION
