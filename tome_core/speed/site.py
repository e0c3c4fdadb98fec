"""Where plans are made and used in the model call under way: its features, and one resolution of its network."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from ..merging import MergePlan
from .level_report import Grid
from .report import SpeedReport
from .state import SpeedState


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
    """Where the transformers of a level, or one of them, stand in the call under way.

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
