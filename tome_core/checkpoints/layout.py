"""Where each diffusers weight lives in Stable Diffusion's original key layout (Rombach et al. 2022, and OpenCLIP).

Names only: no tensor is touched, and no width is assumed, so that the same rules serve every family and small models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

UNET_PREFIX: Final = "model.diffusion_model."
VAE_PREFIX: Final = "first_stage_model."
CLIP_PREFIX: Final = "cond_stage_model.transformer.text_model."

_Rules = Sequence[tuple[str, str]]

_UNET_ENDS: _Rules = (
    (r"^time_embedding\.linear_1\.", "time_embed.0."),
    (r"^time_embedding\.linear_2\.", "time_embed.2."),
    (r"^add_embedding\.linear_1\.", "label_emb.0.0."),
    (r"^add_embedding\.linear_2\.", "label_emb.0.2."),
    (r"^conv_in\.", "input_blocks.0.0."),
    (r"^conv_norm_out\.", "out.0."),
    (r"^conv_out\.", "out.2."),
    (r"^mid_block\.resnets\.0\.", "middle_block.0."),
    (r"^mid_block\.attentions\.0\.", "middle_block.1."),
    (r"^mid_block\.resnets\.1\.", "middle_block.2."),
)
_UNET_RESNET: _Rules = (
    (r"\.norm1\.", ".in_layers.0."),
    (r"\.conv1\.", ".in_layers.2."),
    (r"\.time_emb_proj\.", ".emb_layers.1."),
    (r"\.norm2\.", ".out_layers.0."),
    (r"\.conv2\.", ".out_layers.3."),
    (r"\.conv_shortcut\.", ".skip_connection."),
)
_VAE: _Rules = (
    (r"\.conv_norm_out\.", ".norm_out."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.", ".mid.attn_1."),
    (r"\.group_norm\.", ".norm."),
    (r"\.to_([qkv])\.", r".\1."),
    (r"\.to_out\.0\.", ".proj_out."),
    (r"\.resnets\.(\d+)\.", r".block.\1."),
    (r"\.downsamplers\.0\.", ".downsample."),
    (r"\.upsamplers\.0\.", ".upsample."),
    (r"\.down_blocks\.", ".down."),
)
_OPEN_CLIP: _Rules = (
    (r"^embeddings\.token_embedding\.weight$", "token_embedding.weight"),
    (r"^embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_projection\.weight$", "text_projection"),
    (r"^final_layer_norm\.", "ln_final."),
    (r"^encoder\.layers\.", "transformer.resblocks."),
    (r"\.self_attn\.[qkv]_proj\.", ".attn.in_proj_"),
    (r"\.self_attn\.", ".attn."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.fc1\.", ".c_fc."),
    (r"\.fc2\.", ".c_proj."),
)


def unet_names(names: Iterable[str], layers_per_block: int) -> dict[str, str]:
    """Return diffusers name -> original name for the weights of a `UNet2DConditionModel`.

    The original counts blocks through all levels: a level is `layers_per_block` layers and its down-sampler on the
    way down, `layers_per_block` + 1 layers on the way up, the up-sampler inside the last of them.
    """
    names = list(names)
    attending = {match[1] for name in names if (match := re.match(r"up_blocks\.(\d+)\.attentions\.", name))}

    def block(match: re.Match[str]) -> str:
        way, level, part, layer, tail = match.groups()
        first = int(level) * (layers_per_block + 1)
        if part == "downsamplers":
            return f"input_blocks.{first + layers_per_block + 1}.0.op.{tail.removeprefix('conv.')}"
        if part == "upsamplers":
            place = 2 if level in attending else 1
            return f"output_blocks.{first + layers_per_block}.{place}.{tail}"
        blocks, index = (
            ("input_blocks", first + int(layer) + 1) if way == "down" else ("output_blocks", first + int(layer))
        )
        return f"{blocks}.{index}.{1 if part == 'attentions' else 0}.{tail}"

    def original(name: str) -> str:
        name = _rewrite(name, _UNET_RESNET) if ".resnets." in name else name
        return re.sub(r"^(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)$", block, _rewrite(name, _UNET_ENDS))

    return {name: UNET_PREFIX + original(name) for name in names}


def vae_names(names: Iterable[str], levels: int) -> dict[str, str]:
    """Return diffusers name -> original name for an `AutoencoderKL` of that many levels (finest decoder level: 0)."""

    def up(match: re.Match[str]) -> str:
        return f".up.{levels - 1 - int(match[1])}."

    return {name: VAE_PREFIX + re.sub(r"\.up_blocks\.(\d+)\.", up, _rewrite(name, _VAE)) for name in names}


def clip_names(names: Iterable[str], prefix: str = CLIP_PREFIX) -> dict[str, str]:
    """Return transformers name -> original name for a `CLIPTextModel`, with or without its "text_model." in front."""
    return {name: prefix + name.removeprefix("text_model.") for name in names}


def open_clip_names(names: Iterable[str], prefix: str) -> dict[str, str]:
    """Return transformers name -> OpenCLIP name; query, key and value share one name, stacked in this order."""
    rewritten = {name: _rewrite(name.removeprefix("text_model."), _OPEN_CLIP) for name in names}
    return {name: prefix + open_name for name, open_name in rewritten.items()}


def renamed(model: Any, names: Mapping[str, str]) -> dict[str, Any]:
    """Return original name -> weight of a model."""
    return {names[name]: weight for name, weight in model.state_dict().items()}


def _rewrite(name: str, rules: _Rules) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
