"""The patches around the attentions of a block: plain functions that find all they need in the options of their call.

The host runs an input patch between the norm and the projections, and an output patch before the residual is added.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .key_weights import every_nth, log_sizes
from .patcher_call import SpeedCall, call_in
from .patcher_layout import Place
from .site import Site

_PLANS = {1: "tome_speed_plan1", 2: "tome_speed_plan2"}  # from the patch before an attention to the one after it
_WHOLE_STEPPED_BACK = ("attention", "mlp")

Options = dict[str, Any]
Qkv = tuple[Tensor, Tensor, Tensor]


def merge_first_attention(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Qkv:
    """Return the input of `attn1` merged: q [B, N, C], which k and v are as well where it is a self-attention."""
    return _merge(1, q, k, v, options)


def unmerge_first_attention(n: Tensor, options: Options) -> Tensor:
    """Return the output of `attn1` [B, N, C]."""
    return _unmerge(1, n, options)


def merge_second_attention(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Qkv:
    """Return the input of `attn2` with its queries merged; k and v are the text."""
    return _merge(2, q, k, v, options)


def unmerge_second_attention(n: Tensor, options: Options) -> Tensor:
    """Return the output of `attn2` [B, N, C]."""
    return _unmerge(2, n, options)


def _merge(number: int, q: Tensor, k: Tensor, v: Tensor, options: Options) -> Qkv:
    options.pop(_PLANS[number], None)
    call = call_in(options)
    found = None if call is None else call.site_in(options, q)
    if call is None or found is None:
        return q, k, v
    place, site = found
    if site.span is not None:  # the whole block runs on merged tokens
        if number == 1 and call.config.weighs_keys and k is q:
            call.key_weights = log_sizes(site.span, q)
        return q, k, v
    part = place.first_part if number == 1 else "cross_attention"
    parts = call.config.parts if _is_partwise(call) else _WHOLE_STEPPED_BACK
    if part not in parts:
        return q, k, v
    obstacle = _obstacle(call, place, site, number, q, options)
    if obstacle is not None:
        site.note(f"{part} ran unmerged, {obstacle}")
        return q, k, v
    if part == "cross_attention":
        return _merge_queries(site, part, number, q, options), k, v
    return _merge_self_attention(call, site, q, k, v, options)


def _is_partwise(call: SpeedCall) -> bool:
    """Return whether the config names parts, and not a whole block or stack."""
    return not {"block", "stack"} & set(call.config.parts)


def _merge_self_attention(call: SpeedCall, site: Site, q: Tensor, k: Tensor, v: Tensor, options: Options) -> Qkv:
    if k is not q or v is not q:
        site.note("attention merged its queries alone: another pack gives it other keys or values")
        return _merge_queries(site, "attention", 1, q, options), k, v
    if call.config.has_own_keys:
        keys = _own_keys(call, site, q)
        return _merge_queries(site, "attention", 1, q, options), keys, keys
    merged = _merge_queries(site, "attention", 1, q, options)
    plan = options.get(_PLANS[1])
    if plan is not None and call.config.weighs_keys:
        call.key_weights = log_sizes(plan, q)
    return merged, merged, merged


def _merge_queries(site: Site, part: str, number: int, q: Tensor, options: Options) -> Tensor:
    """Return the queries merged, and keep the plan for the patch behind the attention."""
    plan = site.plan(part) if site.state.config.ratio_of(part) > 0 else None
    if plan is None:
        return q
    site.enter(part, plan.kept)
    if plan.kept < plan.tokens:
        options[_PLANS[number]] = plan
    return plan.merge(q)


def _own_keys(call: SpeedCall, site: Site, x: Tensor) -> Tensor:
    """Return the keys and values of a self-attention, which are merged or left out apart from its queries."""
    config = call.config
    if site.grid is None or not site.merges("keys"):
        return x
    if config.kv_downsample > 1:
        keys = every_nth(x, site.grid, config.kv_downsample)
    else:
        plan = site.plan("keys")
        if plan is None:
            return x
        keys = plan.merge(x)
        if config.weighs_keys and plan.kept < plan.tokens:
            call.key_weights = log_sizes(plan, x)
    site.enter("keys", keys.shape[1])
    return keys


def _obstacle(
    call: SpeedCall, place: Place, site: Site, number: int, q: Tensor, options: Mapping[str, Any]
) -> str | None:
    """Return why an attention must get every token, if it must."""
    tokens = site.grid[0] * site.grid[1] if site.grid else 0
    rows = options["original_shape"][0]
    if q.dim() != 3 or q.shape[:2] != (rows, tokens):
        shape = list(q.shape)
        return f"another pack gives it {shape} instead of [{rows}, {tokens}, C], such as merged tokens or tiles"
    if call.others.replaces(f"attn{number}", place.block, options.get("block_index", 0)):
        return f"another pack replaces attn{number} in block {place.block[0]} {place.block[1]} and gets every token"
    return None


def _unmerge(number: int, n: Tensor, options: Options) -> Tensor:
    call, plan = call_in(options), options.pop(_PLANS[number], None)
    if call is not None and number == 1 and call.key_weights is not None:
        call.key_weights = None
        call.report.note("proportional has no effect: the attention of this host takes no weights for its keys")
    return n if plan is None else plan.unmerge(n)
