"""The hooks that merge: around a part, around a block or a whole stack, and what these need to know of the call.

Each finds the call that is under way in its own thread, and without one it does nothing. Hooks leave the forwards, the
attention processors, LoRA layers and normalisation of a network as they are.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ...merging import MergePlan
from ..config import SpeedConfig
from ..layouts.points import Args, Block, Kwargs, Part, Stack
from .formula import (
    add_unmerged,
    image_tokens,
    merge_tokens,
    read_output,
    riding_obstacle,
    shape_obstacle,
    with_output,
    with_riding,
)
from .parts import may_merge, merge_part, unmerge_part, weigh_keys
from .stack_call import StackCall

Handles = list[RemovableHandle]
Find = Callable[[], StackCall | None]  # the stack in the call of this thread; None where it is in none that merges
PreHook = Callable[[nn.Module, Args, Kwargs], Any]
SpanObstacle = Callable[[Sequence[int]], str | None]  # why blocks, by their numbers, must get every token


def install_stack(
    network: nn.Module, stack: Stack, config: SpeedConfig, find: Find, obstacle: SpanObstacle, handles: Handles
) -> None:
    """Hook one stack of a network and its blocks as the config says.

    `handles` gets each hook as soon as it is there, so that a failure half-way can be undone. Ours come last before a
    module and first after it, so that hooks which are there already see every token. `obstacle` says why the host wants
    every token in the call of this thread.
    """
    module = network.get_submodule(stack.path)
    _before(module, _GridHook(find, stack).enter, handles)
    blocks = [(block, network.get_submodule(block.path)) for block in stack.blocks]
    if config.metric == "block":
        for block, inner in blocks[:1] if config.parts == ("stack",) else blocks:
            _before(inner, _FeatureHook(find, block).enter, handles)
    spans = {"stack": [blocks], "block": [[one] for one in blocks]}.get(config.parts[0], [])
    for number, span in enumerate(spans):
        numbers = range(len(blocks)) if len(spans) == 1 else (number,)
        _SpanHooks(find, partial(obstacle, numbers), span).install(handles)
    for block in stack.blocks:
        for part in block.parts:
            merges = part.kind in config.separate_parts and config.ratio_of(part.kind) > 0
            is_attention, module = part.kind == "attention", network.get_submodule(part.path)
            if merges or (is_attention and config.has_own_keys):
                _PartHooks(find, part).install(module, handles)
            if spans and is_attention and config.weighs_keys:
                _before(module, _SpanKeysHook(find, part).enter, handles)


def _before(module: nn.Module, hook: PreHook, handles: Handles) -> None:
    handles.append(module.register_forward_pre_hook(partial(_when_whole, hook), with_kwargs=True))


def _when_whole(hook: PreHook, module: nn.Module, args: Args, kwargs: Kwargs | None = None) -> Any:
    """Call a hook with the keywords of its call.

    torch keeps a hook and its wish for keywords in two steps. A thread that runs the module between them, while another
    one installs its hooks, meets a hook that is not its own, without keywords.
    """
    return None if kwargs is None else hook(module, args, kwargs)


class _GridHook:
    """Reads the grid of a stack before it runs, where the call may merge."""

    def __init__(self, find: Find, point: Stack) -> None:
        self._find, self._point = find, point

    def enter(self, module: nn.Module, args: Args, kwargs: Kwargs) -> None:
        stack = self._find()
        if stack is not None and self._point.image is not None:
            stack.is_checkpointed = bool(getattr(module, "gradient_checkpointing", False))
            stack.grid = self._point.grid(args, kwargs) if stack.call.is_active else None


class _FeatureHook:
    """Offers the input of a block as what plans are made from (metric block)."""

    def __init__(self, find: Find, block: Block) -> None:
        self._find, self._block = find, block

    def enter(self, module: nn.Module, args: Args, kwargs: Kwargs) -> None:
        stack, convention = self._find(), self._block.call
        if stack is None or stack.grid is None or stack.call.is_ahead:
            return
        x = image_tokens(convention.tokens.read(args, kwargs), stack.grid[0] * stack.grid[1], convention)
        if x.shape[1] == stack.grid[0] * stack.grid[1]:
            own = x.clone() if convention.writes_input else x
            stack.call.offer(partial(_as_image, own, stack.grid))


class _SpanHooks:
    """Hooks on a span F of blocks, which runs on merged tokens: y = x + U (F(M x) - M x), with M and U of a plan."""

    def __init__(self, find: Find, obstacle: Callable[[], str | None], span: list[tuple[Block, nn.Module]]) -> None:
        self._find, self._obstacle, self._span = find, obstacle, span
        self._first, self._last = span[0][0].call, span[-1][0].call

    def install(self, handles: Handles) -> None:
        modules = [module for _, module in self._span]
        _before(modules[0], self._enter, handles)
        for block, module in self._span[1:]:
            if block.call.riding:
                _before(module, partial(self._ride, block), handles)
        handles.append(modules[-1].register_forward_hook(self._leave, prepend=True))

    def _enter(self, module: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
        stack = self._find()
        if stack is None:
            return None
        stack.span = stack.span_tokens = None
        plan = stack.plan(stack.config.parts[0])
        if plan is None:
            return None
        name, x = stack.config.parts[0], self._first.tokens.read(args, kwargs)
        obstacle = shape_obstacle((plan.batch, plan.tokens), x, self._first) or self._why_not(stack, plan, args, kwargs)
        if obstacle is not None:
            stack.note(f"{name} stepped back to attention and mlp apart, {obstacle}")
            return None
        stack.enter(name, plan.kept, x.shape[2])
        if plan.kept == plan.tokens:
            return None
        merged = merge_tokens(plan, x, self._first)
        stack.span, stack.span_tokens = plan, (x, merged)
        args, kwargs = with_riding(plan, self._first, args, kwargs)
        given = merged.clone() if self._first.writes_input else merged
        return self._first.tokens.write(args, kwargs, given)

    def _why_not(self, stack: StackCall, plan: MergePlan, args: Args, kwargs: Kwargs) -> str | None:
        if len(self._span) > 1 and stack.is_checkpointed:
            return "gradient checkpointing runs its blocks again one by one"
        own = (block.call.obstacle(module, args, kwargs) for block, module in self._span)
        riding = riding_obstacle(plan, self._first, args, kwargs)
        return self._obstacle() or riding or next(filter(None, own), None)

    def _ride(self, block: Block, module: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
        stack = self._find()
        return None if stack is None or stack.span is None else with_riding(stack.span, block.call, args, kwargs)

    def _leave(self, module: nn.Module, args: Args, output: object) -> object:
        stack = self._find()
        if stack is None or stack.span is None or stack.span_tokens is None:
            return None
        plan, (x, merged) = stack.span, stack.span_tokens
        stack.span = stack.span_tokens = None
        y = add_unmerged(plan, x, read_output(output, self._last), merged, self._last)
        return with_output(output, self._last, y)


class _PartHooks:
    """Hooks on one part F of one block: y = U F(M x), with M and U of a plan."""

    def __init__(self, find: Find, part: Part) -> None:
        self._find, self._part = find, part

    def install(self, module: nn.Module, handles: Handles) -> None:
        _before(module, self._enter, handles)
        handles.append(module.register_forward_hook(self._leave, prepend=True))

    def _enter(self, module: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
        stack, call = self._find(), self._part.call
        if stack is None or stack.grid is None or not may_merge(stack, self._part):
            return None
        x = call.tokens.read(args, kwargs)
        given = [argument for argument in (call.context, call.value) if argument is not None]
        given = [argument for argument in given if argument.read(args, kwargs) is not None]
        merged = merge_part(
            stack,
            self._part,
            x,
            obstacle=call.obstacle(module, args, kwargs),
            own_keys=all(argument.read(args, kwargs) is x for argument in given),
            keys_obstacle=call.keys_obstacle(module, args, kwargs),
        )
        if merged is None:
            return None
        for argument in given:
            if argument.read(args, kwargs) is x:
                args, kwargs = argument.write(args, kwargs, merged.tokens if merged.keys is None else merged.keys)
        if merged.keys is not None and not given and call.context is not None:
            args, kwargs = call.context.write(args, kwargs, merged.keys)
        if merged.log_sizes is not None and call.mask is not None:
            args, kwargs = call.mask.write(args, kwargs, merged.log_sizes)
        if stack.part is not None:
            args, kwargs = with_riding(stack.part, call, args, kwargs)
        return call.tokens.write(args, kwargs, merged.tokens)

    def _leave(self, module: nn.Module, args: Args, output: object) -> object:
        stack, call = self._find(), self._part.call
        y = None if stack is None or stack.part is None else unmerge_part(stack, self._part, read_output(output, call))
        return None if y is None else with_output(output, call, y)


class _SpanKeysHook:
    """Weighs the keys of a self-attention inside a span, whose tokens are merged already, by their sizes."""

    def __init__(self, find: Find, part: Part) -> None:
        self._find, self._part = find, part

    def enter(self, module: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
        stack, call = self._find(), self._part.call
        if stack is None or stack.span is None or call.mask is None:
            return None
        x, obstacle = call.tokens.read(args, kwargs), call.keys_obstacle(module, args, kwargs)
        weights = weigh_keys(stack, stack.span, x, obstacle)
        return None if weights is None else call.mask.write(args, kwargs, weights)


def _as_image(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return [B, C, height, width] of tokens [B, N, C]."""
    return x.transpose(1, 2).unflatten(2, grid)
