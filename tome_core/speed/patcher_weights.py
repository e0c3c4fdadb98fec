"""Proportional attention in a patcher's model, through the one slot that its host has for another attention."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .patcher_call import SpeedCall

OVERRIDE = "optimized_attention_override"
Attention = Callable[..., Tensor]


def weighed(call: SpeedCall, other: Callable[..., Tensor] | None) -> Callable[..., Tensor]:
    """Return an override for one call that weighs merged keys, and goes on with another pack's where there is one.

    Args:
        call: holds the weights [B, 1, M] of the attention that comes next.
        other: what is in the slot; None where it is empty.
    """

    def attend(func: Attention, q: Tensor, k: Tensor, v: Tensor, heads: int, *args: Any, **kwargs: Any) -> Tensor:
        weights, call.key_weights = call.key_weights, None
        if weights is not None and not args and kwargs.get("mask") is None:
            kwargs["mask"] = weights
        if other is not None:
            return other(func, q, k, v, heads, *args, **kwargs)
        return func(q, k, v, heads, *args, **kwargs)

    return attend
