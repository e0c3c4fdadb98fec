"""Counting the multiply-adds of a call, twice their number, as PyTorch counts them."""

from typing import Final

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


def _attention_flops(q: torch.Size, k: torch.Size, v: torch.Size, *_: object, **__: object) -> int:
    return sdpa_flop_count(q, k, v)


# torch's counter knows every fused attention but the CPU's, which torch before 2.2 lacks
_CPU_ATTENTION = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
_MORE: Final = {} if _CPU_ATTENTION is None else {_CPU_ATTENTION: _attention_flops}


def flop_counter() -> FlopCounterMode:
    """Return a context that counts what runs in it; its `get_total_flops()` is the number."""
    return FlopCounterMode(display=False, custom_mapping=_MORE)
