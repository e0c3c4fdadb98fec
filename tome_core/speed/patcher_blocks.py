"""The blocks of a patcher's network as they are counted and timed: alone, and called as diffusers calls its own.

They share the modules of the network. Nothing that a host or a pack does around a block is in them.
"""

from dataclasses import replace

from torch import Tensor, nn
from torch.nn import functional

from .levels import Level


class PlainAttention(nn.Module):
    """An attention on the projections of another one.

    Args:
        attention: has `to_q`, `to_k`, `to_v`, `to_out` and its number of `heads`.
    """

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.heads = int(attention.heads)  # type: ignore[arg-type]
        for name in ("to_q", "to_k", "to_v", "to_out"):
            self.add_module(name, attention.get_submodule(name))

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, attention_mask: Tensor | None = None
    ) -> Tensor:
        """Return [B, N, C] for x [B, N, C], a context [B, L, D] (None: x itself) and what is added to its logits."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        run = dict(self.named_children())
        projected = run["to_q"](hidden_states), run["to_k"](context), run["to_v"](context)
        q, k, v = (x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in projected)
        mask = None if attention_mask is None else attention_mask.unsqueeze(1)
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return run["to_out"](attended.transpose(1, 2).flatten(2))


class PlainBlock(nn.Module):
    """A transformer block on the modules of another one in the original layout."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.only_cross_attention = bool(getattr(block, "disable_self_attn", False))
        for name, module in block.named_children():
            if name in ("attn1", "attn2"):
                self.add_module(name, PlainAttention(module))
            elif name in ("norm1", "norm2", "norm3", "ff"):
                self.add_module(name, module)

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None) -> Tensor:
        """Return [B, N, C] for x [B, N, C] and a text [B, L, D]."""
        x, text = hidden_states, encoder_hidden_states
        run = dict(self.named_children())
        x = x + run["attn1"](run["norm1"](x), encoder_hidden_states=text if self.only_cross_attention else None)
        if "attn2" in run:
            x = x + run["attn2"](run["norm2"](x), encoder_hidden_states=text)
        return x + run["ff"](run["norm3"](x))


def plain_levels(levels: tuple[Level, ...]) -> tuple[Level, ...]:
    """Return levels whose blocks are plain ones: as many as they have, all of them like the first.

    A level whose blocks are of another make stays as it is: it is not counted, and a guard times it or says that
    it cannot.
    """
    return tuple(map(_plain_level, levels))


def _plain_level(level: Level) -> Level:
    try:
        return replace(level, blocks=(PlainBlock(level.blocks[0]),) * len(level.blocks))
    except (AttributeError, TypeError, ValueError):  # an attention without projections, or without heads
        return level
