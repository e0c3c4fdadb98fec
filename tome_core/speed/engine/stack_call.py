"""One stack of blocks in the call under way: where its tokens lie, and what its hooks hand on to one another."""

from dataclasses import dataclass, field

from torch import Tensor

from ...merging import MergePlan
from ..config import Grid, SpeedConfig
from ..plans.run import ModelCall


class PartsThatRan:
    """The parts that ran in a compiled call: an attribute each, the tokens and channels that it ran on.

    It is only written there, and read outside: what a compiled call reads must not change, or it is compiled anew.
    """


@dataclass(eq=False)
class StackCall:
    """One stack in the call under way, in one thread.

    Attributes:
        call: the call of the whole network.
        level: that of the stack.
        grid: height and width in tokens; None where nothing merges.
        span: the plan by which a block or the stack that is under way has merged its tokens.
        span_tokens: what that span was given, [B, N, C], and M of it, [B, M, C].
        part: the plan of the part that is under way.
        is_checkpointed: whether the backward pass runs each block again, alone.
        ran: the parts that ran in a call whose plans were made ahead.
    """

    call: ModelCall
    level: int
    grid: Grid | None = None
    span: MergePlan | None = None
    span_tokens: tuple[Tensor, Tensor] | None = None
    part: MergePlan | None = None
    is_checkpointed: bool = False
    ran: PartsThatRan = field(default_factory=PartsThatRan)

    @property
    def config(self) -> SpeedConfig:
        """What to merge."""
        return self.call.config

    def merges(self) -> bool:
        """Return whether anything may merge here now."""
        return self.grid is not None and self.call.merges_at(self.level, self.grid)

    def plan(self, part: str) -> MergePlan | None:
        """Return the plan of a part; None where it shall run on every token."""
        return None if self.grid is None else self.call.plan(self.level, self.grid, part)

    def enter(self, part: str, kept: int, channels: int) -> None:
        """Note that a part runs on `kept` tokens of `channels` channels now."""
        if self.call.is_ahead:
            setattr(self.ran, part, (kept, channels))
        elif self.grid is not None:
            self.call.enter(self.level, self.grid, part, kept, channels)

    def report_parts_that_ran(self) -> None:
        """Report the parts that ran in a compiled call, when it is over."""
        for part, (kept, channels) in vars(self.ran).items():
            if self.grid is not None:
                self.call.enter(self.level, self.grid, part, kept, channels)

    def note(self, sentence: str) -> None:
        """Report a sentence about this level, once."""
        self.call.run.report.note(f"level {self.level}: {sentence}")
