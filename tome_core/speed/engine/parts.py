"""What a part of a block gets when tokens merge, and what comes of its output, whoever hands it over: y = U F(M x)."""

from dataclasses import dataclass

from torch import Tensor

from ...merging import MergePlan
from ..layouts.points import Part
from .formula import merge_tokens, shape_obstacle, unmerge_tokens
from .stack_call import StackCall


@dataclass(frozen=True)
class MergedInput:
    """The inputs of a part on merged tokens.

    Attributes:
        tokens: [B, M (+ text), C].
        keys: [B, K, C], what keys and values come from; None where that is the tokens, or another tool's.
        log_sizes: [B, 1, K], what is added to the logits of the keys; None where each counts once.
    """

    tokens: Tensor
    keys: Tensor | None = None
    log_sizes: Tensor | None = None


def may_merge(stack: StackCall, part: Part) -> bool:
    """Return whether a part of the stack merges anything in the call under way, unless an obstacle is in its way."""
    stack.part = None
    wanted = _merges_tokens(stack, part) or (_is_self_attention(part) and stack.config.has_own_keys)
    return wanted and stack.span is None and stack.merges()


def merge_part(
    stack: StackCall,
    part: Part,
    x: Tensor,
    *,
    obstacle: str | None = None,
    own_keys: bool = True,
    keys_obstacle: str | None = None,
) -> MergedInput | None:
    """Return the inputs of a part that may merge; None where it must get every token, which the report then says.

    Args:
        stack: where the part is. It keeps the plan until `unmerge_part`.
        part: the merge point.
        x: [B, N (+ text), C], its tokens.
        obstacle: why it must get every token, apart from the shape of these.
        own_keys: whether the keys of a self-attention come from x, as they do unless another tool gives it others,
            which stay untouched.
        keys_obstacle: why its keys must be those of its queries, each counted once.
    """
    height, width = stack.grid or (0, 0)
    reason = shape_obstacle((stack.call.rows, height * width), x, part.call) or obstacle
    if reason is not None:
        stack.note(f"{part.kind} ran unmerged, {reason}")
        return None
    keys, weights = None, None
    if _is_self_attention(part):
        keys, weights = _keys(stack, x, own_keys=own_keys, obstacle=keys_obstacle)
    plan = stack.plan(part.kind) if _merges_tokens(stack, part) else None
    if plan is None:
        return None if keys is None else MergedInput(x, keys, weights)
    stack.enter(part.kind, plan.kept, x.shape[2])
    stack.part = plan
    if _is_self_attention(part) and own_keys and stack.config.weighs_keys and not stack.config.has_own_keys:
        weights = weigh_keys(stack, plan, x, keys_obstacle)
    return MergedInput(merge_tokens(plan, x, part.call), keys, weights)


def unmerge_part(stack: StackCall, part: Part, y: Tensor) -> Tensor | None:
    """Return the output y of a part with a row for each token; None where its input was not merged."""
    plan, stack.part = stack.part, None
    return None if plan is None else unmerge_tokens(plan, y, part.call)


def weigh_keys(stack: StackCall, plan: MergePlan, x: Tensor, obstacle: str | None) -> Tensor | None:
    """Return what is added to the logits of merged keys [B, 1, M]: the logarithms of their sizes, in the dtype of x.

    Proportional attention (Bolya et al. 2023, "Token Merging: Your ViT But Faster", section 3, eq. 1). None where
    nothing is merged, or something is in the way, which the report then says.
    """
    if obstacle is not None:
        stack.note(f"merged keys count once each, {obstacle}")
    if obstacle is not None or plan.kept == plan.tokens:
        return None
    return plan.sizes.log().to(x.dtype).unsqueeze(1)


def _is_self_attention(part: Part) -> bool:
    return part.kind == "attention" and part.call.image == "all"


def _merges_tokens(stack: StackCall, part: Part) -> bool:
    return part.kind in stack.config.separate_parts and stack.config.ratio_of(part.kind) > 0


def _keys(stack: StackCall, x: Tensor, *, own_keys: bool, obstacle: str | None) -> tuple[Tensor | None, Tensor | None]:
    """Return the keys of a self-attention where they are others than its queries, and how much they count.

    They are merged by a ratio of their own or, as in ToDo (Smith et al. 2024, arXiv 2402.13573), they are every n-th
    token of every n-th row.
    """
    config, step = stack.config, stack.config.kv_downsample
    if not own_keys:
        stack.note("attention merged its queries alone, another tool gives it other keys or values")
        return None, None
    if config.has_own_keys and obstacle is not None:
        stack.note(f"keys are those of the queries, {obstacle}")
    if not config.has_own_keys or obstacle is not None:
        return None, None
    if step > 1 and stack.grid is not None:
        keys, weights = x.unflatten(1, stack.grid)[:, ::step, ::step].flatten(1, 2), None
    else:
        plan = stack.plan("keys")
        if plan is None:
            return x, None
        keys, weights = plan.merge(x), weigh_keys(stack, plan, x, None) if config.weighs_keys else None
    stack.enter("keys", keys.shape[1], x.shape[2])
    return keys, weights
