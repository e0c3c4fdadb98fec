"""M and U of a plan on what a module is given and gives back: image tokens, joint sequences, and what rides along."""

import torch
from torch import Tensor

from ...merging import MergePlan
from ...merging.kernels import add_gathered
from ..layouts.points import Args, CallConvention, Kwargs


def shape_obstacle(plan_shape: tuple[int, int], x: object, call: CallConvention) -> str | None:
    """Return why x does not hold the tokens [B, N, C] that a plan of shape (B, N) is for; None where it does."""
    batch, tokens = plan_shape
    is_batch = isinstance(x, Tensor) and x.dim() == 3 and x.shape[0] == batch
    if isinstance(x, Tensor) and is_batch and (x.shape[1] == tokens or (call.image != "all" and x.shape[1] > tokens)):
        return None
    if x is None:
        return f"the call has no argument {call.tokens.name}, which the layout of this network names"
    shape = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
    return f"it got {shape} instead of [{batch}, {tokens}, C]: another patch merges or tiles, or chunking slices it"


def merge_tokens(plan: MergePlan, x: Tensor, call: CallConvention) -> Tensor:
    """Return M x: the image tokens of x [B, N (+ text), C] merged, the text as it is."""
    if call.image == "all":
        return plan.merge(x)
    front, image, back = _split(x, plan.tokens, call)
    return torch.cat([front, plan.merge(image), back], dim=1)


def unmerge_tokens(plan: MergePlan, y: Tensor, call: CallConvention) -> Tensor:
    """Return U y for y [B, M (+ text), C]: each image token gets a copy of its merged one."""
    if call.image == "all":
        return plan.unmerge(y)
    front, image, back = _split(y, plan.kept, call)
    return torch.cat([front, plan.unmerge(image), back], dim=1)


def add_unmerged(plan: MergePlan, x: Tensor, y: Tensor, merged: Tensor, call: CallConvention) -> Tensor:
    """Return x + U (y - M x) on image tokens, and y itself on the text.

    The residual stream x [B, N (+ text), C] keeps its full resolution: only what the module adds to its input, y - M x
    [B, M (+ text), C], is shared by merged tokens. Ours; the published form (Bolya & Hoffman 2023, section 4) merges
    around each part, three times a block.
    """
    if call.image == "all":
        return add_gathered(x, y, merged, plan.slots)
    (front, y, back), merged = _split(y, plan.kept, call), _split(merged, plan.kept, call)[1]
    image = add_gathered(_split(x, plan.tokens, call)[1], y, merged, plan.slots)
    return torch.cat([front, image, back], dim=1)


def riding_obstacle(plan: MergePlan, call: CallConvention, args: Args, kwargs: Kwargs) -> str | None:
    """Return why what rides along does not fit a plan; None where it does."""
    for riding in call.riding:
        given = riding.argument.read(args, kwargs)
        if given is None:
            continue
        fits = isinstance(given, Tensor) and given.dim() > riding.dim and given.shape[0] in (1, plan.batch)
        if not fits or given.shape[riding.dim] < plan.tokens:
            return f"{riding.argument.name} is not [1 or {plan.batch}, {plan.tokens} or more] along its tokens"
    return None


def with_riding(plan: MergePlan, call: CallConvention, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
    """Return the arguments of a call with the entries of kept tokens in what rides along with all of them."""
    for riding in call.riding:
        tensor = riding.argument.read(args, kwargs)
        if tensor is not None:
            args, kwargs = riding.argument.write(args, kwargs, _pick(plan, tensor, riding.dim, call))
    return args, kwargs


def read_output(output: object, call: CallConvention) -> Tensor:
    """Return the tokens in what a module returns."""
    return output if call.output is None else output[call.output]  # type: ignore[index, return-value]


def with_output(output: object, call: CallConvention, tokens: Tensor) -> object:
    """Return what a module returns, with other tokens in it."""
    if call.output is None:
        return tokens
    items = list(output)  # type: ignore[call-overload]
    items[call.output] = tokens
    return type(output)(items)  # type: ignore[call-arg]


def image_tokens(x: Tensor, tokens: int, call: CallConvention) -> Tensor:
    """Return the image tokens [B, N, C] of a sequence."""
    return x if call.image == "all" else _split(x, tokens, call)[1]


def _split(x: Tensor, tokens: int, call: CallConvention, dim: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Return what is in front of the image tokens of a joint sequence, these, and what is behind them."""
    start = 0 if call.image == "front" else x.shape[dim] - tokens
    return tuple(x.tensor_split([start, start + tokens], dim=dim))  # type: ignore[return-value]


def _pick(plan: MergePlan, tensor: Tensor, dim: int, call: CallConvention) -> Tensor:
    image = "front" if call.image == "front" else "back"
    front, own, back = _split(tensor, plan.tokens, CallConvention(call.tokens, image), dim)
    if own.shape[0] == 1:
        own, front, back = (x.expand(plan.batch, *x.shape[1:]) for x in (own, front, back))
    shape = [1] * own.dim()
    shape[0], shape[dim] = plan.batch, plan.kept
    index = plan.kept_tokens.reshape(shape).expand(*own.shape[:dim], plan.kept, *own.shape[dim + 1 :])
    return torch.cat([front, own.gather(dim, index), back], dim=dim)
