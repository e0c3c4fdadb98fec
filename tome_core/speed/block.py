"""The maths around one part f of a transformer block: y = U f(M x), with the merge M and the unmerge U of a plan."""

from torch import Tensor

from ..merging import MergePlan


class MergedPart:
    """Runs one part of a block (attention or MLP) on merged tokens, in two halves: hosts let us in before and after it.

    `enter` and `skip` start anew: what a part that raised has left behind is forgotten.
    """

    def __init__(self) -> None:
        self._plan: MergePlan | None = None

    def enter(self, x: Tensor, plan: MergePlan) -> Tensor:
        """Return what the part gets [B, M, C] in place of its input `x` [B, N, C]."""
        self._plan = plan
        return plan.merge(x)

    def leave(self, y: Tensor) -> Tensor:
        """Return what the block gets [B, N, C] in place of the part's output `y` [B, M, C].

        `y` itself, where `enter` was not called for it.
        """
        plan, self._plan = self._plan, None
        return y if plan is None else plan.unmerge(y)

    def skip(self) -> None:
        """Let the part run on every token in the call that follows."""
        self._plan = None


def fits(plan: MergePlan, x: Tensor) -> bool:
    """Return whether `x` holds the tokens that the plan was made for; a slice of them (chunked MLP) does not."""
    return x.dim() == 3 and x.shape[:2] == (plan.batch, plan.tokens)
