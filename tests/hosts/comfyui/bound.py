"""The demo model and small text encoders in ComfyUI's own classes, and what the bind node does with them."""

from __future__ import annotations

import functools
import importlib
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.hosts.comfyui.host import fill, open_host
from tome_core.binding import BindingConfig
from tome_core.binding.doors.conditioning import BoundConditioning, HostClip, bind_conditioning

ROOT = Path(__file__).resolve().parents[3]
SMALL = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "intermediate_size": 128,
    "projection_dim": 64,
}


def node_module(name: str) -> Any:
    """Return a module of nodes/ without the pack's front door; its core is the one that tests import."""
    open_host()
    for package, folder in (("suite", ROOT), ("suite.nodes", ROOT / "nodes")):
        sys.modules.setdefault(package, types.ModuleType(package)).__path__ = [str(folder)]
    for core in [core for core in sys.modules if core.split(".")[0] == "tome_core"]:
        sys.modules[f"suite.{core}"] = sys.modules[core]
    return importlib.import_module(f"suite.nodes.{name}")


@functools.cache
def demo() -> tuple[Any, Any, Any]:
    """Return the demo model's MODEL, CLIP and VAE."""
    return node_module("demo_model").load_demo_model()


def small_clip(family: str, embeddings: Path | None = None) -> Any:
    """Return a random CLIP of "sd15", "sd2" or "sdxl", with its real tokenizers."""
    open_host()
    from comfy import sd, sd1_clip, sdxl_clip, supported_models_base
    from comfy.text_encoders import sd2_clip

    tokenizer, model = {
        "sd15": (sd1_clip.SD1Tokenizer, sd1_clip.SD1ClipModel),
        "sd2": (sd2_clip.SD2Tokenizer, sd2_clip.SD2ClipModel),
        "sdxl": (sdxl_clip.SDXLTokenizer, sdxl_clip.SDXLClipModel),
    }[family]
    sizes = {f"clip_{name}_model_config": dict(SMALL, hidden_size=width) for name, width in (("l", 64), ("g", 96))}
    target = supported_models_base.ClipTarget(tokenizer, model)
    options = {"model_options": {**sizes, "_model_config": SMALL}}  # SD 2's has no name to look its sizes up by
    clip = sd.CLIP(target, embedding_directory=None if embeddings is None else str(embeddings), **options)
    fill(clip.cond_stage_model)
    return clip


def host_clip(clip: Any) -> HostClip:
    """Return how the node encodes with a CLIP."""
    return node_module("host_clip").host_clip(clip)


@torch.inference_mode()
def encode(clip: Any, text: str) -> list[list[Any]]:
    """Return what CLIP Text Encode makes of a prompt."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


@torch.inference_mode()
def bind(clip: Any, text: str, **settings: Any) -> BoundConditioning:
    """Return what ToMe Bind Prompt makes of a prompt."""
    return bind_conditioning(text, BindingConfig(**settings), host_clip(clip))


def rows(conditioning: list[list[Any]]) -> Tensor:
    """Return the rows [T, D] of the one prompt in a conditioning."""
    assert len(conditioning) == 1
    return conditioning[0][0][0]
