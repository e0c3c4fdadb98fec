"""Token merging on one network: which runs are under way, which call each thread is in, and the hooks that merge."""

import inspect
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from ...merging import MergePlan
from ...unet_walk import uncompiled
from ..config import WHOLE, Grid, SpeedConfig
from ..layouts.points import Layout, Stack
from ..plans.making import Matcher
from ..plans.run import ModelCall, SamplingRun
from .hooks import install_stack
from .stack_call import StackCall

StackObstacle = Callable[[Stack, Sequence[int]], str | None]  # why blocks of a stack must get every token

# True only where a call is being traced; older torch has no such function
is_compiling: Callable[[], bool] = getattr(torch.compiler, "is_compiling", bool)
_REASON = "token merging makes its plans outside the compiled call: compile the model without fullgraph=True"


@dataclass
class CurrentCall:
    """The call of the network that one thread is in.

    Attributes:
        stacks: each stack of the layout in it.
        obstacle: why the host wants blocks of a stack, by their numbers, to get every token.
        owner: whose hooks act in it.
        has_run: whether a stack was reached: a cache of another pack may answer in place of the network.
    """

    stacks: list[StackCall]
    obstacle: StackObstacle | None
    owner: object
    has_run: bool


class SpeedEngine:
    """Token merging on one network.

    Args:
        config: what to merge.
        layout: where the network can merge.
        matcher: makes the plans in place of the matching that the config names.

    Raises:
        ValueError: the config names a level that the network lacks.
    """

    def __init__(self, config: SpeedConfig, layout: Layout, matcher: Matcher | None = None) -> None:
        layout.check_levels(config.levels)
        self.config, self.layout, self.matcher = config, layout, matcher
        self._start()

    def _start(self) -> None:
        """Make what no copy of this engine shares: the calls under way."""
        self._replayed: list[StackCall] | None = None
        self._local = threading.local()
        self._open: set[int] = set()  # the threads that are in a call
        self._when_idle: Callable[[], object] | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config, "layout": self.layout, "matcher": self.matcher}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start()

    def install(self, network: nn.Module, handles: list[RemovableHandle], owner: object = None) -> None:
        """Hook every stack of the levels that merge.

        Args:
            network: the one that the layout is of.
            handles: gets each hook as soon as it is there.
            owner: whose calls the hooks act in, such as a sampling run; None for those that nobody owns.
        """
        for index, stack in enumerate(self.layout.stacks):
            if stack.level in self.config.levels:
                find, obstacle = partial(self._own_stack_call, owner, index), partial(self._obstacle, stack)
                install_stack(network, stack, self.config, find, obstacle, handles)

    def begin(
        self, call: ModelCall, latent_size: Grid, obstacle: StackObstacle | None = None, owner: object = None
    ) -> None:
        """Begin a call of the network in this thread.

        Args:
            call: its plans.
            latent_size: height and width of the latent.
            obstacle: why a host wants blocks of a stack, by their numbers, to get every token.
            owner: whose hooks act in the call, as `install` has it.
        """
        self._replayed = None
        stacks = [self._new_stack_call(call, stack, latent_size) for stack in self.layout.stacks]
        with self._lock:
            self._open.add(threading.get_ident())
        self._local.current = CurrentCall(stacks, obstacle, owner, has_run=owner is None)

    def make_ahead(self, call: ModelCall, latent_size: Grid) -> None:
        """Make every plan of a call before it begins, since its network is compiled, and so are its hooks."""
        wanted = []
        for level in self.layout.levels:
            if level.number not in self.config.levels:
                continue
            present = {*self.layout.parts_of(level.number), *WHOLE, "keys"}
            parts = [part for part in self.config.merged_parts if self.config.ratio_of(part) > 0 and part in present]
            wanted += [(level.number, level.grid(*latent_size), part) for part in parts]
        call.make_ahead(wanted if call.is_active else [])

    def end(self, output: object) -> None:
        """End the call of this thread, which gave an output; without a call it does nothing."""
        current = self._leave()
        if current is None:
            return
        for stack in current.stacks:
            stack.report_parts_that_ran()
        current.stacks[0].call.end(output, has_run=current.has_run)
        if torch.is_grad_enabled() and any(stack.is_checkpointed for stack in current.stacks):
            self._replayed = current.stacks  # the backward pass runs blocks again, in a thread of its own on a GPU

    def abort(self) -> SamplingRun | None:
        """Forget the call of this thread, which failed; return its run. Without a call it does nothing."""
        self._replayed = None
        current = self._leave()
        return None if current is None else current.stacks[0].call.run

    def when_idle(self, act: Callable[[], object]) -> None:
        """Call a function once no other thread is in a call: now, or at the end of the last of these calls."""
        with self._lock:
            alive = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}
            self._open &= alive
            is_idle = not self._open
            self._when_idle = None if is_idle else act
        if is_idle:
            act()

    def stack_call(self, index: int) -> StackCall | None:
        """Return a stack of the layout in the call of this thread; None where it is in none."""
        current: CurrentCall | None = getattr(self._local, "current", None)
        stacks = self._replayed if current is None else current.stacks
        return None if stacks is None else stacks[index]

    def plan_of(self, grid: Grid, kept: int) -> MergePlan | None:
        """Return the plan by which the call of this thread has merged tokens of a grid to so many; None for none."""
        current: CurrentCall | None = getattr(self._local, "current", None)
        for stack in [] if current is None else current.stacks:
            for plan in (stack.span, stack.part):
                if stack.grid == grid and plan is not None and plan.kept == kept:
                    return plan
        return None

    def _leave(self) -> CurrentCall | None:
        """End being in a call; return it."""
        current: CurrentCall | None = getattr(self._local, "current", None)
        self._local.current = None
        with self._lock:
            self._open.discard(threading.get_ident())
            act = None if self._open else self._when_idle
            self._when_idle = None if act is not None else self._when_idle
        if act is not None:
            act()
        return current

    def _own_stack_call(self, owner: object, index: int) -> StackCall | None:
        """Return the same as `stack_call` for the hooks of an owner, which must not act in the calls of another."""
        current: CurrentCall | None = getattr(self._local, "current", None)
        if current is None:
            return None if owner is not None or self._replayed is None else self._replayed[index]
        if current.owner is not owner:
            return None
        if owner is not None:
            current.has_run = True
        return current.stacks[index]

    def _obstacle(self, stack: Stack, indices: Sequence[int]) -> str | None:
        """Return why the host wants every token in blocks of a stack in the call of this thread, if it does."""
        current: CurrentCall | None = getattr(self._local, "current", None)
        return None if current is None or current.obstacle is None else current.obstacle(stack, indices)

    def _new_stack_call(self, call: ModelCall, stack: Stack, latent_size: Grid) -> StackCall:
        is_computed = call.is_active and stack.image is None
        grid = self.layout.levels[stack.level - 1].grid(*latent_size) if is_computed else None
        return StackCall(call, stack.level, grid)


def may_be_ours(error: BaseException) -> bool:
    """Return whether an error in a call that merges may come of merging, so that the call is worth another try without.

    An interrupt of the host's and a lack of memory, of which merging takes less, do not.
    """
    is_fault = isinstance(error, RuntimeError | ValueError | TypeError | LookupError | AttributeError | ArithmeticError)
    return (is_fault or isinstance(error, AssertionError)) and not isinstance(error, torch.cuda.OutOfMemoryError)


def outside(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs uncompiled wherever it is called."""
    disable: Any = torch.compiler.disable
    takes_reason = "reason" in inspect.signature(disable).parameters  # older torch gives none
    return disable(function, reason=_REASON) if takes_reason else disable(function)


def is_compiled(model: Any) -> bool:
    """Return whether a model was compiled, by `torch.compile(model)` or by `model.compile()`."""
    return uncompiled(model) is not model or getattr(model, "_compiled_call_impl", None) is not None


def drop_compiled_calls() -> None:
    """Discard what torch.compile made in this process: a compiled model does not notice added or removed hooks."""
    torch.compiler.reset()
