"""How the calls of diffusers' blocks and their parts are read, and when such a call must get every token."""

from typing import Any

from torch import Tensor, nn

from ..merging import MergePlan
from .levels import block_parts

Args = tuple[Any, ...]
Kwargs = dict[str, Any]

_MASKED = "its attention mask counts the tokens by place"
_IP_ADAPTER_MASKED = "IP-Adapter masks count the tokens by place"


def argument(args: Args, kwargs: Kwargs, position: int, name: str) -> Any:
    """Return an argument of a forward call, however it was given; None if it was not."""
    return args[position] if len(args) > position else kwargs.get(name)


def with_hidden_states(args: Args, kwargs: Kwargs, hidden_states: Tensor) -> tuple[Args, Kwargs]:
    """Return a forward call's arguments with another first one."""
    return ((hidden_states, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": hidden_states})


def part_obstacle(part: str, batch: int, tokens: int, args: Args, kwargs: Kwargs) -> str | None:
    """Return why a part of a block whose input shall be [batch, tokens, C] must get every token, if it must."""
    x = argument(args, kwargs, 0, "hidden_states")
    context = argument(args, kwargs, 1, "encoder_hidden_states")
    mask = argument(args, kwargs, 2, "attention_mask")
    if not _fits(x, batch, tokens):
        return f"it got {list(x.shape)} instead of [{batch}, {tokens}, C] (forward chunking gives it slices)"
    if mask is not None and (context is None or _differs_by_query(mask)):
        return _MASKED
    if part == "cross_attention" and kwargs.get("ip_adapter_masks") is not None:
        return _IP_ADAPTER_MASKED
    return None


def span_obstacle(plan: MergePlan, blocks: list[nn.Module], args: Args, kwargs: Kwargs) -> str | None:
    """Return why some blocks in a row, called with these arguments, must get every token, if they must."""
    x = argument(args, kwargs, 0, "hidden_states")
    text_mask = argument(args, kwargs, 3, "encoder_attention_mask")
    processor_kwargs = argument(args, kwargs, 5, "cross_attention_kwargs") or {}
    if not _fits(x, plan.batch, plan.tokens):
        return f"it got {list(x.shape)} instead of [{plan.batch}, {plan.tokens}, C]"
    if argument(args, kwargs, 1, "attention_mask") is not None:
        return _MASKED
    if text_mask is not None and _differs_by_query(text_mask):
        return _MASKED
    if processor_kwargs.get("ip_adapter_masks") is not None:
        return _IP_ADAPTER_MASKED
    return next(filter(None, map(_block_obstacle, blocks)), None)


def _block_obstacle(block: nn.Module) -> str | None:
    """Return why a block must get every token in any call, if it must."""
    if getattr(block, "_chunk_size", None) is not None:
        return "forward chunking cuts its tokens by place"
    if getattr(block, "pos_embed", None) is not None:
        return "its position embedding counts the tokens by place"
    attentions = (module for part, module in block_parts(block) if part != "mlp")
    for processor in (getattr(attention, "processor", None) for attention in attentions):
        if processor is not None and not is_own_processor(processor):
            return f"its attention processor {type(processor).__name__} may count the tokens by place"
    return None


def is_own_processor(processor: object) -> bool:
    """Return whether an attention processor is one of diffusers' own that takes tokens in any number and order.

    Others record or edit attention maps, or tell regions apart; those of IP-Adapter are diffusers' own and do so, too.
    """
    kind = type(processor)
    return kind.__module__.split(".")[0] == "diffusers" and "IPAdapter" not in kind.__name__


def _fits(x: Tensor, batch: int, tokens: int) -> bool:
    return x.dim() == 3 and x.shape[:2] == (batch, tokens)


def _differs_by_query(mask: Tensor) -> bool:
    return mask.dim() > 2 and mask.shape[-2] != 1
