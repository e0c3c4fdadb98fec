"""Which Stable Diffusion a checkpoint in original layout is, and what its denoiser predicts, told from its header.

A denoiser predicts the noise (epsilon) or the velocity (v_prediction; Salimans & Ho 2022, section 4). Weights of both
kinds have the same names and shapes, so a file may not say which it is.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from safetensors import SafetensorError, safe_open

from ..errors import CheckpointError, UnsupportedModelError
from .layout import UNET_PREFIX

Family = Literal["sd15", "sd2", "sdxl"]
PredictionType = Literal["epsilon", "v_prediction"]

PREDICTION_TYPES: Final = ("epsilon", "v_prediction")
PICKLES: Final = (".ckpt", ".pt", ".pth", ".bin", ".pkl")

SUPPORTED: Final = "supported are whole Stable Diffusion 1.5, 2.x and SDXL base text-to-image checkpoints"
_WIDTH: Final = 320  # channels of the finest level in all three families
_FAMILY_BY_CONTEXT: Final[dict[int, Family]] = {768: "sd15", 1024: "sd2", 2048: "sdxl"}
_KIND_BY_CHANNELS: Final = {
    5: "a depth-to-image model (5 input channels)",
    7: "an upscaler (7 input channels)",
    8: "an image-editing model (8 input channels)",
    9: "an inpainting model (9 input channels)",
}
# What a file without a Stable Diffusion U-Net may be instead; the first sign that is found names it.
_OTHER_KINDS: Final = (
    ("a LoRA", ("lora_down.", "lora_A.", ".lora.down.", "lora_unet_", "lora_te")),
    ("a ControlNet", ("control_model.", "controlnet_cond_embedding.", "input_hint_block.")),
    ("a Flux model", ("double_blocks.0.",)),
    ("a Stable Diffusion 3 model", ("joint_blocks.0.",)),
    ("one part of a diffusers folder (open the folder instead)", ("down_blocks.0.", "encoder.mid_block.")),
    ("a VAE alone", ("first_stage_model.", "decoder.conv_in.")),
    ("a text encoder alone", ("text_model.encoder.", "resblocks.0.")),
    ("a textual inversion embedding", ("emb_params", "clip_g")),
)
# The rule of thumb that ComfyUI uses for Stable Diffusion 2: this bias spreads wider in its 768-pixel v-models.
_TELLTALE: Final = UNET_PREFIX + "output_blocks.11.1.transformer_blocks.0.norm1.bias"
_TELLTALE_DEVIATION: Final = 0.09
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Header:
    """The table of contents of one safetensors file."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_header(path: Path) -> Header:
    """Return the header of a safetensors file; no weight is read.

    Raises `CheckpointError` for a missing file, a pickle, another kind of file, and a truncated or damaged one.
    """
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; models are opened from local files, nothing is downloaded")
    refuse_pickle(path)
    if not path.is_file() or path.suffix.lower() != ".safetensors":
        raise CheckpointError(f"{path} must be a .safetensors file or a diffusers folder")
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            return Header(path, shapes, file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is no whole safetensors file, truncated or damaged ({error})") from error


def refuse_pickle(path: Path) -> None:
    """Raise `CheckpointError` if the file's name says that it is a pickle."""
    if path.suffix.lower() in PICKLES:
        raise CheckpointError(
            f"{path} is a pickle, and opening a pickle can run any code hidden in it; convert it to .safetensors"
        )


def detect_family(header: Header) -> Family:
    """Return the family that a checkpoint in original layout belongs to.

    Raises `UnsupportedModelError`, which names what was found, for everything else.
    """
    shapes = header.shapes
    stem = shapes.get(UNET_PREFIX + "input_blocks.0.0.weight")
    if stem is None:
        raise _unsupported(header, _other_kind(shapes))
    if stem[1] != 4:
        raise _unsupported(header, _KIND_BY_CHANNELS.get(stem[1], f"a model with {stem[1]} input channels"))
    if any(name.startswith("edm_") for name in shapes):
        raise _unsupported(header, "a model with an EDM noise schedule (Playground 2.5, CosXL)")
    context = _context_width(header)
    conditioned = UNET_PREFIX + "label_emb.0.0.weight" in shapes
    if stem[0] == 384 and context == 1280:
        raise _unsupported(header, "an SDXL refiner")
    family = _FAMILY_BY_CONTEXT.get(context)
    if stem[0] != _WIDTH or family is None or conditioned != (family == "sdxl"):
        embeddings = "with" if conditioned else "without"
        found = f"a U-Net {stem[0]} channels wide, {context} for the text, {embeddings} added embeddings"
        raise _unsupported(header, found)
    return family


def _context_width(header: Header) -> int:
    """Return the width of the text rows that the first cross-attention reads, 0 without any cross-attention."""
    widths = (
        shape[-1]
        for name, shape in header.shapes.items()
        if name.startswith(UNET_PREFIX) and name.endswith(".attn2.to_k.weight")
    )
    return next(widths, 0)


def _other_kind(names: Collection[str]) -> str:
    for kind, signs in _OTHER_KINDS:
        if any(sign in name for name in names for sign in signs):
            return kind
    return f"{len(names)} tensors, the first of them {min(names)!r}" if names else "a file without tensors"


def _unsupported(header: Header, found: str) -> UnsupportedModelError:
    return UnsupportedModelError(f"{header.path} is {found}; {SUPPORTED}")


def check_prediction_type(value: str | None) -> None:
    """Raise `ValueError` unless the value is a prediction type or None."""
    if value is not None and value not in PREDICTION_TYPES:
        raise ValueError(f"prediction_type must be one of {', '.join(PREDICTION_TYPES)} or None, got {value!r}")


def find_prediction_type(header: Header, family: Family) -> PredictionType:
    """Return what the file itself says, or the yaml beside it; else epsilon, for SD2 a guess that is logged.

    Only Stable Diffusion 2 was published in both kinds, so only there is the guess worth a warning.
    """
    stated = _stated_in_file(header) or _stated_in_yaml(header)
    if stated is not None or family != "sd2":
        return stated or "epsilon"
    guess: PredictionType = "v_prediction" if _spreads_like_v(header) else "epsilon"
    _logger.warning(
        "%s does not say what it predicts; taken for %s from one of its weights. "
        "If pictures are only noise or grey, it is the other one: set it with --prediction-type in `tome generate`, "
        "or with prediction_type in load_pipeline.",
        header.path.name,
        guess,
    )
    return guess


def _stated_in_file(header: Header) -> PredictionType | None:
    stated = header.metadata.get("modelspec.prediction_type")
    if "v_pred" in header.shapes or stated in ("v", "v_prediction"):  # v_pred: empty, by trainers of v-models
        return "v_prediction"
    return "epsilon" if stated == "epsilon" else None


def _stated_in_yaml(header: Header) -> PredictionType | None:
    """Read `parameterization:` in FILE.yaml, the original configuration that AUTOMATIC1111 expects beside v-models."""
    yaml = header.path.with_suffix(".yaml")
    if not yaml.is_file():
        return None
    stated = re.search(r"^\s*parameterization:\s*[\"']?(\w+)", yaml.read_text("utf-8", "replace"), re.MULTILINE)
    return "v_prediction" if stated and stated[1] == "v" else "epsilon"


def _spreads_like_v(header: Header) -> bool:
    if _TELLTALE not in header.shapes:
        return False
    with safe_open(header.path, framework="pt") as file:
        return file.get_tensor(_TELLTALE).float().std(correction=0).item() > _TELLTALE_DEVIATION
