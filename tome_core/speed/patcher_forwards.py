"""What no patch point reaches: the MLP, a whole block, a whole stack, and the input of a block.

Hooks are put on the network for the time of one call and act in its thread alone: all clones of a model share one
network, and another clone's run must neither meet them nor take them away, as it would take an object patch.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..merging import MergePlan
from ..merging.kernels import add_gathered
from .config import WHOLE
from .patcher_call import SpeedCall
from .patcher_features import observe_block
from .patcher_layout import Place
from .site import Site

Hook = Callable[..., Any]


@contextmanager
def hooked(network: nn.Module, call: SpeedCall) -> Iterator[None]:
    """Merge around MLPs, blocks and stacks of a network in a call, and look at inputs of blocks, as its config says."""
    handles: list[RemovableHandle] = []
    try:
        for number, place in enumerate(call.layout.places):
            _PlaceHooks(call, place, network.get_submodule(place.name), handles).install(is_first=number == 0)
        yield
    finally:
        for handle in handles:
            handle.remove()


def needs_hooks(call: SpeedCall) -> bool:
    """Return whether anything in a call is beyond the patch points."""
    if not call.state.is_active:
        return False
    parts, config = set(call.config.parts), call.config
    merges_mlp = "mlp" in parts and config.ratio_of("mlp") > 0
    return merges_mlp or bool(parts & set(WHOLE)) or call.metric in ("first_block", "block")


class _PlaceHooks:
    """The hooks on one SpatialTransformer and its blocks in one call."""

    def __init__(self, call: SpeedCall, place: Place, transformer: nn.Module, handles: list[RemovableHandle]) -> None:
        self._call, self._place, self._transformer = call, place, transformer
        self._handles = handles
        self._blocks = list(transformer.get_submodule("transformer_blocks").children())
        self._site: Site | None = None
        self._grid: tuple[int, int] | None = None
        self._entered: tuple[Tensor, Tensor] | None = None  # x [B, N, C] and M x [B, M, C]
        self._plan: MergePlan | None = None  # of the MLP

    def install(self, *, is_first: bool) -> None:
        """Hook what the config asks for; the order is that in which things happen in a block."""
        config, metric = self._call.config, self._call.metric
        is_chosen = self._place.level in config.levels
        observes = metric == "block" and is_chosen
        if not (is_chosen or (is_first and metric == "first_block")):
            return
        self._before(self._transformer, self._read_grid)
        for index, block in enumerate(self._blocks):
            if (is_first and index == 0 and metric == "first_block") or (
                observes and (index == 0 or config.parts != ("stack",))
            ):
                self._before(block, self._observe)
        if not is_chosen:
            return
        if config.parts == ("stack",):
            self._span(range(len(self._blocks)))
        elif config.parts == ("block",):
            for index in range(len(self._blocks)):
                self._span(range(index, index + 1))
        if set(config.parts) & {"mlp", *WHOLE} and config.ratio_of("mlp") > 0:
            for block in self._blocks:
                mlp = block.get_submodule("ff")
                self._before(mlp, self._merge_mlp)
                self._after(mlp, self._unmerge_mlp)

    def _read_grid(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        x = args[0]  # [B, C, height, width]
        self._grid = (x.shape[2], x.shape[3])
        self._site = None

    def _observe(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if self._grid is not None and self._call.state.is_active:
            observe_block(self._call, args[0], self._grid)

    def _span(self, indices: range) -> None:
        """Merge around blocks F in a row: y = x + U (F(M x) - M x), with M and U of a plan.

        The residual stream keeps its full resolution: only what the blocks add to it is shared by merged tokens.
        """

        def enter(block: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            return self._enter_span(indices, args)

        self._before(self._blocks[indices[0]], enter)
        self._after(self._blocks[indices[-1]], self._leave_span)

    def _enter_span(self, indices: range, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        part, x = self._call.config.parts[0], args[0]
        site = self._current_site(x)
        if site is None:
            return None
        obstacle = self._call.others.span_obstacle(self._place, indices)
        if obstacle is not None:
            site.note(f"{part} stepped back to attention and mlp apart, {obstacle}")
            return None
        plan = site.plan(part)
        if plan is None:
            return None
        site.enter(part, plan.kept)
        if plan.kept == plan.tokens:
            return None
        merged = plan.merge(x)
        self._entered, site.span = (x, merged), plan
        return (merged, *args[1:])

    def _leave_span(self, block: nn.Module, args: tuple[Any, ...], y: Tensor) -> Tensor | None:
        entered, self._entered = self._entered, None
        site = self._site
        if site is None or site.span is None or entered is None:
            return None
        plan, site.span = site.span, None
        return add_gathered(entered[0], y, entered[1], plan.slots)

    def _merge_mlp(self, mlp: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        x, self._plan = args[0], None
        site = self._current_site(x)
        if site is None or site.span is not None:  # in a span the tokens are merged already
            return None
        plan = site.plan("mlp")
        if plan is None:
            return None
        site.enter("mlp", plan.kept)
        self._plan = plan
        return (plan.merge(x), *args[1:])

    def _unmerge_mlp(self, mlp: nn.Module, args: tuple[Any, ...], y: Tensor) -> Tensor | None:
        plan, self._plan = self._plan, None
        return None if plan is None else plan.unmerge(y)

    def _current_site(self, x: Tensor) -> Site | None:
        if self._site is None and self._grid is not None:
            self._site = self._call.site(self._place.level, self._grid, x)
        return self._site

    def _before(self, module: nn.Module, hook: Hook) -> None:
        self._handles.append(module.register_forward_pre_hook(self._in_own_thread(hook)))

    def _after(self, module: nn.Module, hook: Hook) -> None:
        self._handles.append(module.register_forward_hook(self._in_own_thread(hook), prepend=True))

    def _in_own_thread(self, hook: Hook) -> Hook:
        thread = self._call.thread
        return lambda *given: hook(*given) if threading.get_ident() == thread else None
