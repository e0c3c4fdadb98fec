"""What the hooks of one Transformer2DModel share: its place in the call under way, and how calls are read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ..merging import MergePlan
from .diffusers_layout import block_parts
from .level_report import Grid
from .report import SpeedReport
from .state import SpeedState

Args = tuple[Any, ...]
Kwargs = dict[str, Any]

_MASKED = "its attention mask counts the tokens by place"
_IP_ADAPTER_MASKED = "IP-Adapter masks count the tokens by place"


class Entered:
    """The parts that ran in a compiled call: an attribute each, the tokens that it ran on.

    It is only written there, and read outside: what a compiled call reads must not change, or it is compiled anew.
    """


@dataclass
class Observation:
    """Features that were met in the call under way, kept as they came until some plan asks for them.

    So a call in which nothing merges does nothing to them.

    Attributes:
        shape: their channels, height and width; None before there are any.
    """

    shape: tuple[int, int, int] | None = None
    _make: Callable[[], Tensor] | None = None

    def offer(self, shape: tuple[int, int, int], make: Callable[[], Tensor]) -> None:
        """Take features of a shape, which `make` returns as [B, C, height, width]."""
        self.shape, self._make = shape, make

    def hand_over(self, state: SpeedState) -> None:
        """Let the state observe what is new to it."""
        make, self._make = self._make, None
        if make is not None:
            state.observe(make())

    def reset(self) -> None:
        """Forget the call."""
        self.shape = self._make = None


@dataclass
class Site:
    """Where a Transformer2DModel stands in the call under way.

    Attributes:
        level: the level that the model is at.
        state, report: those of the whole UNet.
        grid: height and width in tokens; None while it shall run on every token.
        span: the plan by which a whole block or stack that is under way has merged its tokens.
        is_checkpointed: whether the backward pass runs each block again, alone.
        entered: what ran in the call, where its plans were made ahead.
        left_out: the parts that merging would make slower, "keys" among them.
        observation: what plans are made from, as it is met; one for the whole UNet.
    """

    level: int
    state: SpeedState
    report: SpeedReport
    grid: Grid | None = None
    span: MergePlan | None = None
    is_checkpointed: bool = False
    entered: Entered = field(default_factory=Entered)
    left_out: frozenset[str] = frozenset()
    observation: Observation = field(default_factory=Observation)

    def merges(self, part: str) -> bool:
        """Return whether a part may merge in the call under way."""
        return self.grid is not None and part not in self.left_out

    def plan(self, part: str) -> MergePlan | None:
        """Return the plan of a part; None where it shall run on every token."""
        if self.grid is None or not self.merges(part):
            return None
        if not self.state.is_ahead:
            self.observation.hand_over(self.state)
        return self.state.plan(self.level, self.grid, part)

    def enter(self, part: str, kept: int) -> None:
        """Take note that a part runs on `kept` tokens now."""
        if self.state.is_ahead:
            setattr(self.entered, part, kept)
        elif self.grid is not None:
            self.state.enter(self.level, self.grid, part, kept)

    def tell(self) -> None:
        """Let the state take note of what a compiled call has entered, when it is over."""
        entered, self.entered = self.entered, Entered()
        for part, kept in vars(entered).items():
            if self.grid is not None:
                self.state.enter(self.level, self.grid, part, kept)

    def note(self, sentence: str) -> None:
        """Report a sentence about this level, once."""
        self.report.note(f"level {self.level}: {sentence}")

    def reset(self) -> None:
        """Forget a call that broke off."""
        self.grid = self.span = None
        self.entered = Entered()


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
