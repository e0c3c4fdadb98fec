"""The hooks that merge around the parts of diffusers' own, unchanged block: `attn1`, `attn2` and `ff`.

Hooks leave the block's forward, its attention processors, LoRA layers, GLIGEN fuser and normalisation as they are.
"""

from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..merging import MergePlan
from .diffusers_layout import block_parts, transformer_blocks
from .report import Grid, SpeedReport
from .state import SpeedState

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


class TransformerHooks:
    """Hooks on one Transformer2DModel: reads its grid, and finds its plan for the parts of its blocks."""

    def __init__(self, level: int, state: SpeedState, report: SpeedReport) -> None:
        self.level = level
        self.state = state
        self.report = report
        self._grid: Grid | None = None
        self._parts: list[PartHooks] = []

    def install(
        self,
        transformer: nn.Module,
        parts: tuple[str, ...],
        observed: list[nn.Module],
        hooks: list[RemovableHandle],
    ) -> None:
        """Hook the model, the chosen parts of its blocks, and the blocks from whose input plans are made.

        `hooks` gets each hook as soon as it is there, so that a failure half-way can be undone.
        """
        hooks.append(transformer.register_forward_pre_hook(self._read_grid, with_kwargs=True))
        for block in observed:
            hooks.append(block.register_forward_pre_hook(self._observe, with_kwargs=True))
        for block in transformer_blocks(transformer):
            for part, module in block_parts(block):
                if part in parts:
                    self._parts.append(PartHooks(part, self))
                    self._parts[-1].install(module, hooks)

    def plan(self) -> MergePlan | None:
        """Return the plan for the call under way; None where it shall run on every token."""
        return None if self._grid is None else self.state.plan(self.level, self._grid)

    def reset(self) -> None:
        """Forget a call that broke off."""
        self._grid = None
        for part in self._parts:
            part.reset()

    def _read_grid(self, module: nn.Module, args: Args, kwargs: Kwargs) -> None:
        hidden_states = argument(args, kwargs, 0, "hidden_states")  # [B, C, height, width]
        is_image = self.state.is_active and hidden_states.dim() == 4
        self._grid = (hidden_states.shape[2], hidden_states.shape[3]) if is_image else None

    def _observe(self, module: nn.Module, args: Args, kwargs: Kwargs) -> None:
        if self._grid is not None:
            hidden_states = argument(args, kwargs, 0, "hidden_states")  # [B, N, C]
            self.state.observe(hidden_states.transpose(1, 2).unflatten(2, self._grid))


class PartHooks:
    """Hooks on one part f of one block: its input is merged, its output unmerged, y = U f(M x) with M and U of a plan.

    The plan is kept from the one hook to the other. What a part that raised has left behind is forgotten.
    """

    def __init__(self, part: str, transformer: TransformerHooks) -> None:
        self._part = part
        self._transformer = transformer
        self._plan: MergePlan | None = None

    def install(self, module: nn.Module, hooks: list[RemovableHandle]) -> None:
        """Hook the part, last before and first after it, so that hooks which are there already see every token."""
        hooks.append(module.register_forward_pre_hook(self._enter, with_kwargs=True))
        hooks.append(module.register_forward_hook(self._leave, prepend=True))

    def reset(self) -> None:
        """Forget a call that broke off."""
        self._plan = None

    def _enter(self, module: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
        self._plan = None
        plan = self._transformer.plan()
        if plan is None:
            return None
        hidden_states = argument(args, kwargs, 0, "hidden_states")  # [B, N, C]
        obstacle = _obstacle(plan, hidden_states, args, kwargs)
        if obstacle is not None:
            self._transformer.report.note(f"level {self._transformer.level}: {self._part} ran unmerged, {obstacle}")
            return None
        self._plan = plan
        self._transformer.state.enter(plan)
        merged = plan.merge(hidden_states)  # [B, M, C]
        return ((merged, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": merged})

    def _leave(self, module: nn.Module, args: Args, output: Tensor) -> Tensor:
        plan, self._plan = self._plan, None
        return output if plan is None else plan.unmerge(output)  # [B, N, C]


def _obstacle(plan: MergePlan, x: Tensor, args: Args, kwargs: Kwargs) -> str | None:
    """Return why a part must get every token in this call, if it must."""
    if x.dim() != 3 or x.shape[:2] != (plan.batch, plan.tokens):
        return f"it got {list(x.shape)} instead of [{plan.batch}, {plan.tokens}, C] (forward chunking gives it slices)"
    context = argument(args, kwargs, 1, "encoder_hidden_states")
    mask = argument(args, kwargs, 2, "attention_mask")
    if mask is not None and (context is None or (mask.dim() > 2 and mask.shape[-2] != 1)):
        return "its attention mask counts the tokens by place"
    if context is not None and kwargs.get("ip_adapter_masks") is not None:
        return "IP-Adapter masks count the tokens by place"
    return None


def argument(args: Args, kwargs: Kwargs, position: int, name: str) -> Any:
    """Return an argument of a forward call, however it was given; None if it was not."""
    return args[position] if len(args) > position else kwargs.get(name)
