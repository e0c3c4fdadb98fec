"""The hooks that merge around one part of diffusers' own, unchanged block: `attn1`, `attn2` or `ff`.

Hooks leave the block's forward, its attention processors, LoRA layers, GLIGEN fuser and normalisation as they are.
"""

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..merging import MergePlan
from .diffusers_calls import Args, Kwargs, argument, part_obstacle, with_hidden_states
from .key_weights import every_nth, log_sizes
from .site import Site


class PartHooks:
    """Hooks on one part f of one block: its input is merged, its output unmerged, y = U f(M x) with M and U of a plan.

    The plan is kept from the one hook to the other. What a part that raised has left behind is forgotten. A
    self-attention that `weighs` its keys, which are merged with its queries, lets them count by their sizes.
    """

    def __init__(self, part: str, site: Site, *, weighs: bool = False) -> None:
        self._part = part
        self._site = site
        self._weighs = weighs
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
        plan = None if self._site.span else self._site.plan(self._part)  # in a span the tokens are merged already
        if plan is None:
            return None
        obstacle = part_obstacle(self._part, plan.batch, plan.tokens, args, kwargs)
        if obstacle is not None:
            self._site.note(f"{self._part} ran unmerged, {obstacle}")
            return None
        self._plan = plan
        self._site.enter(self._part, plan.kept)
        merged = plan.merge(argument(args, kwargs, 0, "hidden_states"))  # [B, M, C]
        args, kwargs = with_hidden_states(args, kwargs, merged)
        return args, kwargs | (_weights(plan, merged) if self._weighs else {})

    def _leave(self, module: nn.Module, args: Args, output: Tensor) -> Tensor:
        plan, self._plan = self._plan, None
        return output if plan is None else plan.unmerge(output)  # [B, N, C]


class KeyHooks:
    """A hook on one self-attention whose keys and values are others than its queries.

    They are merged by a ratio of their own or, as in ToDo (Smith et al. 2024, arXiv 2402.13573), they are every f-th
    token of every f-th row.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._config = site.state.config

    def install(self, module: nn.Module, hooks: list[RemovableHandle]) -> None:
        """Hook the self-attention, before `PartHooks` merges its queries."""
        hooks.append(module.register_forward_pre_hook(self._enter, with_kwargs=True))

    def _enter(self, module: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
        site = self._site
        if site.grid is None or not site.merges("keys"):
            return None
        x = argument(args, kwargs, 0, "hidden_states")  # [B, N, C]
        obstacle = part_obstacle("attention", x.shape[0], site.grid[0] * site.grid[1], args, kwargs)
        if getattr(module, "fused_projections", False):
            obstacle = "its projections are fused (unfuse_qkv_projections() parts them)"
        if obstacle is not None:
            site.note(f"keys ran unmerged, {obstacle}")
            return None
        factor = self._config.kv_downsample
        changed = self._merged(x) if factor == 1 else {"encoder_hidden_states": every_nth(x, site.grid, factor)}
        if changed:
            site.enter("keys", changed["encoder_hidden_states"].shape[1])
        return args, kwargs | changed

    def _merged(self, x: Tensor) -> Kwargs:
        """Return merged keys as the context of self-attention, and how much they count."""
        plan = self._site.plan("keys")
        if plan is None:
            return {}
        return {"encoder_hidden_states": plan.merge(x)} | (_weights(plan, x) if self._config.weighs_keys else {})


class SpanWeightHooks:
    """A hook on a self-attention inside a span, whose keys, merged by the span, count by their sizes."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def install(self, module: nn.Module, hooks: list[RemovableHandle]) -> None:
        """Hook the self-attention."""
        hooks.append(module.register_forward_pre_hook(self._enter, with_kwargs=True))

    def _enter(self, module: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
        if self._site.span is None:
            return None
        return args, kwargs | _weights(self._site.span, argument(args, kwargs, 0, "hidden_states"))


def _weights(plan: MergePlan, x: Tensor) -> Kwargs:
    """Return the argument that lets merged keys count by their sizes."""
    return {} if plan.kept == plan.tokens else {"attention_mask": log_sizes(plan, x)}
