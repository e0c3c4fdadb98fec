"""A UNet in the original layout, as small as can be, that calls patches where ComfyUI does, and in its order.

As the Forge family has it (`is_forge`) it adds to the residual stream in place and gives no `activations_shape`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.hosts.fake.protocol import run_wrapped

CHANNELS, HEADS, TEXT_WIDTH = 16, 2, 12
Options = dict[str, Any]


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None, **options: Any) -> Tensor:
    """Return attention [B, N, C]; the host lets one override stand in for it."""
    override = (options.get("transformer_options") or {}).get("optimized_attention_override")
    if override is not None and not options.pop("is_inside", False):
        return override(attend, q, k, v, heads, mask=mask, is_inside=True, **options)
    q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    mask = None if mask is None else mask.unsqueeze(1)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


class CrossAttention(nn.Module):
    def __init__(self, text_width: int | None = None) -> None:
        super().__init__()
        self.heads = HEADS
        self.to_q = nn.Linear(CHANNELS, CHANNELS, bias=False)
        self.to_k = nn.Linear(text_width or CHANNELS, CHANNELS, bias=False)
        self.to_v = nn.Linear(text_width or CHANNELS, CHANNELS, bias=False)
        self.to_out = nn.Sequential(nn.Linear(CHANNELS, CHANNELS))

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        value: Tensor | None = None,
        mask: Tensor | None = None,
        transformer_options: Any = None,
    ) -> Tensor:
        context = x if context is None else context
        value = context if value is None else value
        q, k, v = self.to_q(x), self.to_k(context), self.to_v(value)
        return self.to_out(attend(q, k, v, self.heads, mask=mask, transformer_options=transformer_options))


class BasicTransformerBlock(nn.Module):
    def __init__(self, *, is_forge: bool = False) -> None:
        super().__init__()
        self._is_forge = is_forge
        self.attn1, self.attn2 = CrossAttention(), CrossAttention(TEXT_WIDTH)
        self.ff = nn.Sequential(nn.Linear(CHANNELS, 2 * CHANNELS), nn.GELU(), nn.Linear(2 * CHANNELS, CHANNELS))
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(CHANNELS) for _ in range(3))

    def forward(self, x: Tensor, context: Tensor, transformer_options: Options) -> Tensor:
        patches = transformer_options.get("patches", {})
        extra = {key: value for key, value in transformer_options.items() if not key.startswith("patches")}
        n = self.norm1(x)
        x = self._add(x, self._attend("attn1", n, n, transformer_options, patches, extra))
        for patch in patches.get("middle_patch", []):
            x = patch(x, extra)
        x = self._add(x, self._attend("attn2", self.norm2(x), context, transformer_options, patches, extra))
        return self._add(self.ff(self.norm3(x)), x)

    def _add(self, x: Tensor, n: Tensor) -> Tensor:
        return x.add_(n) if self._is_forge else x + n

    def _attend(self, name: str, q: Tensor, k: Tensor, options: Options, patches: Options, extra: Options) -> Tensor:
        attention, v = getattr(self, name), k
        for patch in patches.get(f"{name}_patch", []):
            q, k, v = patch(q, k, v, extra)
        replaces = options.get("patches_replace", {}).get(name, {})
        block = options["block"]
        slot = (*block, options["block_index"]) if (*block, options["block_index"]) in replaces else block
        if slot in replaces:
            n = attention.to_out(replaces[slot](attention.to_q(q), attention.to_k(k), attention.to_v(v), extra))
        else:
            n = attention(q, context=k, value=v, transformer_options=options)
        for patch in patches.get(f"{name}_output_patch", []):
            n = patch(n, extra)
        return n


class SpatialTransformer(nn.Module):
    def __init__(self, depth: int, *, is_forge: bool = False) -> None:
        super().__init__()
        self._is_forge = is_forge
        self.proj_in, self.proj_out = nn.Conv2d(CHANNELS, CHANNELS, 1), nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.transformer_blocks = nn.ModuleList(BasicTransformerBlock(is_forge=is_forge) for _ in range(depth))

    def forward(self, x: Tensor, context: Tensor, transformer_options: Options) -> Tensor:
        if not self._is_forge:
            transformer_options["activations_shape"] = list(x.shape)
        tokens = self.proj_in(x).flatten(2).transpose(1, 2)
        for index, block in enumerate(self.transformer_blocks):
            transformer_options["block_index"] = index
            tokens = block(tokens, context, transformer_options)
        return x + self.proj_out(tokens.transpose(1, 2).unflatten(2, x.shape[2:]))


class ResBlock(nn.Module):
    def __init__(self, inputs: int = CHANNELS) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, CHANNELS, 3, padding=1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return functional.silu(self.conv(x)) + emb[:, :, None, None]


class Downsample(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.op = nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    def forward(self, x: Tensor, size: torch.Size) -> Tensor:
        return functional.interpolate(x, size=size, mode="nearest")


class UNetModel(nn.Module):
    """Transformers at downsample 1 and 2, or at 2 alone; in the middle one more.

    Args:
        depths: blocks of a transformer at downsample 1, at 2 and in the middle; 0 for none.
        has_label: whether the time embedding takes pooled text.
        is_forge: whether it is written as the Forge family's.
    """

    def __init__(self, depths: tuple[int, int, int], *, has_label: bool, is_forge: bool = False) -> None:
        super().__init__()
        new = partial(SpatialTransformer, is_forge=is_forge)
        first, second, middle = ([new(depth)] if depth else [] for depth in depths)
        again = [[new(depth)] if depth else [] for depth in depths[:2]]
        self.label_emb = nn.Linear(8, CHANNELS) if has_label else None
        self.input_blocks = nn.ModuleList(
            nn.ModuleList(layers)
            for layers in (
                [nn.Conv2d(4, CHANNELS, 3, padding=1)],
                [ResBlock(), *first],
                [Downsample()],
                [ResBlock(), *second],
            )
        )
        self.middle_block = nn.ModuleList([ResBlock(), *middle, ResBlock()])
        self.output_blocks = nn.ModuleList(
            nn.ModuleList(layers)
            for layers in (
                [ResBlock(2 * CHANNELS), *again[1]],
                [ResBlock(2 * CHANNELS), Upsample()],
                [ResBlock(2 * CHANNELS), *again[0]],
                [ResBlock(2 * CHANNELS)],
            )
        )
        self.out = nn.Conv2d(CHANNELS, 4, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, context: Tensor, y: Tensor | None, transformer_options: Options) -> Tensor:
        return run_wrapped("diffusion_model", self._forward, self, transformer_options, x, t, context, y)

    def _forward(self, x: Tensor, t: Tensor, context: Tensor, y: Tensor | None, transformer_options: Options) -> Tensor:
        options = transformer_options
        options["original_shape"] = list(x.shape)
        emb = torch.sin(t[:, None] / 100 + torch.arange(CHANNELS))
        if self.label_emb is not None and y is not None:
            emb = emb + self.label_emb(y)
        skips, h = [], x
        for index, stage in enumerate(self.input_blocks):
            options["block"] = ("input", index)
            h = self._run(stage, h, emb, context, options, None)
            for patch in options.get("patches", {}).get("input_block_patch", []):
                h = patch(h, options)
            skips.append(h)
        options["block"] = ("middle", 0)
        h = self._run(self.middle_block, h, emb, context, options, None)
        for index, stage in enumerate(self.output_blocks):
            options["block"] = ("output", index)
            skip = skips.pop()
            for patch in options.get("patches", {}).get("output_block_patch", []):
                h, skip = patch(h, skip, options)
            size = skips[-1].shape[2:] if skips else None
            h = self._run(stage, torch.cat([h, skip], dim=1), emb, context, options, size)
        return self.out(h)

    def _run(self, stage: Any, h: Tensor, emb: Tensor, context: Tensor, options: Options, size: Any) -> Tensor:
        for layer in stage:
            if isinstance(layer, ResBlock):
                h = layer(h, emb)
            elif isinstance(layer, SpatialTransformer):
                h = layer(h, context, options)
            else:
                h = layer(h, size) if isinstance(layer, Upsample) else layer(h)
        return h
