"""Proportional attention in a patcher's model, through the one slot that its host has for another attention."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .patcher_call import call_in

OVERRIDE = "optimized_attention_override"
Attention = Callable[..., Tensor]


def weigh_keys(func: Attention, q: Tensor, k: Tensor, v: Tensor, heads: int, *args: Any, **kwargs: Any) -> Tensor:
    """Return the attention with merged keys counting by their sizes; go on with another pack's where there is one."""
    call = call_in(kwargs.get("transformer_options") or {})
    if call is not None and call.key_weights is not None:
        weights, call.key_weights = call.key_weights, None
        if not args and kwargs.get("mask") is None:
            kwargs["mask"] = weights
    if call is not None and call.other_attention is not None:
        return call.other_attention(func, q, k, v, heads, *args, **kwargs)
    return func(q, k, v, heads, *args, **kwargs)
