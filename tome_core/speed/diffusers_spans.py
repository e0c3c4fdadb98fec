"""The hooks that merge once around a whole block of diffusers, or around a whole stack of them."""

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..merging import MergePlan
from ..merging.kernels import add_gathered
from .diffusers_calls import Args, Kwargs, argument, span_obstacle, with_hidden_states
from .site import Site


class SpanHooks:
    """Hooks on a span F of blocks, which runs on merged tokens: y = x + U (F(M x) - M x), with M and U of a plan.

    The residual stream x keeps its full resolution: only what the span adds to it is shared by merged tokens. Ours; the
    published form (Bolya & Hoffman 2023, section 4) merges around each part, three times a block.
    """

    def __init__(self, part: str, site: Site, blocks: list[nn.Module]) -> None:
        self._part = part  # "block" or "stack"
        self._site = site
        self._blocks = blocks
        self._entered: tuple[Tensor, Tensor] | None = None  # x [B, N, C] and M x [B, M, C]

    def install(self, hooks: list[RemovableHandle]) -> None:
        """Hook the span, last before its first block and first after its last one."""
        hooks.append(self._blocks[0].register_forward_pre_hook(self._enter, with_kwargs=True))
        hooks.append(self._blocks[-1].register_forward_hook(self._leave, prepend=True))

    def reset(self) -> None:
        """Forget a call that broke off."""
        self._entered = None

    def _enter(self, block: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
        self._entered = self._site.span = None
        plan = self._site.plan(self._part)
        if plan is None:
            return None
        obstacle = span_obstacle(plan, self._blocks, args, kwargs)
        if self._part == "stack" and self._site.is_checkpointed:
            obstacle = "gradient checkpointing runs its blocks again one by one"
        if obstacle is not None:
            self._site.note(f"{self._part} stepped back to attention and mlp apart, {obstacle}")
            return None
        self._site.enter(self._part, plan.kept)
        if plan.kept == plan.tokens:
            return None
        x = argument(args, kwargs, 0, "hidden_states")
        merged = plan.merge(x)
        self._entered, self._site.span = (x, merged), plan
        return with_hidden_states(args, kwargs, merged)

    def _leave(self, block: nn.Module, args: Args, output: Tensor) -> Tensor:
        entered, self._entered = self._entered, None
        plan, self._site.span = self._site.span, None
        return output if entered is None or plan is None else add_unmerged(plan, output, *entered)


def add_unmerged(plan: MergePlan, y: Tensor, x: Tensor, merged: Tensor) -> Tensor:
    """Return x + U (y - M x) [B, N, C], for y and M x [B, M, C]: three operations, on a GPU one."""
    return add_gathered(x, y, merged, plan.slots)
