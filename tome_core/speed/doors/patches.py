"""The patches in a host's `transformer_options`: those of other packs, and ours where a network is compiled.

Our hooks come last before a part and first after it, so that everybody else's patches see every token. What works
between the projections of an attention (a replace), or inside a block that is merged as a whole, cannot be served like
that: there merging steps aside (rule 10 of the house).
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from ..engine.engine import SpeedEngine, is_compiled, outside
from ..engine.parts import may_merge, merge_part, unmerge_part
from ..engine.stack_call import StackCall
from ..layouts.points import Part, Stack

Options = dict[str, Any]
Patch = Callable[..., Any]
Qkv = tuple[Tensor, Tensor, Tensor]

IN_BLOCK = ("attn1_patch", "attn1_output_patch", "middle_patch", "attn2_patch", "attn2_output_patch")
OVERRIDE = "optimized_attention_override"
_MERGING = "tome_speed_merging"
_COMPILE_KEY = "torch.compile"  # under which ComfyUI's own node puts its wrapper


class OtherPatches:
    """The patches of other packs in one model call.

    A patch with the attribute `takes_merged_tokens` works on merged tokens as well, such as the recorder of maps.

    Args:
        options: the call's `transformer_options`, without any of ours.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        patches = options.get("patches") or {}
        strict = {name: [p for p in patches.get(name) or () if not takes_merged_tokens(p)] for name in IN_BLOCK}
        self._inside = [name for name in IN_BLOCK if strict[name]]
        self._replaced = options.get("patches_replace") or {}
        self._wrappers = options.get("wrappers") or {}

    def obstacle(self, stack: Stack, indices: Sequence[int]) -> str | None:
        """Return why some blocks of a stack, merged as a whole, must get every token, if they must."""
        if self._inside:
            return f"another patch looks inside the blocks ({', '.join(self._inside)})"
        for attention in ("attn1", "attn2"):
            if any(self.replaces(attention, stack, index) for index in indices):
                return f"another pack replaces {attention} in block {_name(stack)}"
        return None

    def replaced(self, stack: Stack, parts: Sequence[str]) -> Iterator[str]:
        """Yield a sentence for each attention of a stack that would merge, and that another pack computes itself."""
        for number in (1, 2):
            indices = [i for i in range(len(stack.blocks)) if self.replaces(f"attn{number}", stack, i)]
            found = (_attention(stack, i, number) for i in indices)
            for kind in sorted({part.kind for part in found if part is not None} & set(parts)):
                yield f"{kind} ran unmerged, another pack replaces attn{number} in block {_name(stack)}"

    def compiles(self, model: Any) -> bool:
        """Return whether the network of a host's model is compiled, or will be when the call comes to it."""
        by_wrapper = bool((self._wrappers.get("apply_model") or {}).get(_COMPILE_KEY))
        by_forge = bool(getattr(model, "_torch_compile_config", None))
        return by_wrapper or by_forge or is_compiled(model.diffusion_model)

    def replaces(self, attention: str, stack: Stack, index: int) -> bool:
        """Return whether another pack computes "attn1" or "attn2" of a block itself."""
        slots, block = self._replaced.get(attention) or {}, stack.host_block
        return block is not None and (block in slots or (*block, index) in slots)


class SharedInCopies:
    """An object that deepcopy returns unchanged: some packs copy a model's options in the middle of a run."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


class CompiledMerging(SharedInCopies):
    """What this suite's patches find in the options of a call of a compiled network."""

    def __init__(self, engine: SpeedEngine, others: OtherPatches) -> None:
        self.engine, self.others = engine, others


def takes_merged_tokens(patch: object) -> bool:
    """Return whether a patch says of itself that it works on merged tokens as well."""
    return bool(getattr(patch, "takes_merged_tokens", False))


def with_attention_patches(options: Options, merging: CompiledMerging) -> Options:
    """Return a call's options with patches that merge around attentions, where no hook of ours would be looked at.

    The host runs an input patch between the norm and the projections, and an output patch before the residual is added.
    Those of other packs stay: ours are last before an attention and first after it, and run uncompiled.
    """
    patches = dict(options.get("patches") or {})
    for number in (1, 2):
        before, after = f"attn{number}_patch", f"attn{number}_output_patch"
        patches[before] = [*patches.get(before, []), _uncompiled(_merge, number)]
        patches[after] = [_uncompiled(_unmerge, number), *patches.get(after, [])]
    return {**options, "patches": patches, _MERGING: merging}


@functools.cache
def _uncompiled(patch: Patch, number: int) -> Patch:
    return outside(functools.partial(patch, number))


def _merge(number: int, q: Tensor, k: Tensor, v: Tensor, options: Options) -> Qkv:
    """Return the inputs of an attention with its tokens q [B, N, C] merged."""
    found = _part_in(number, options)
    if found is None or not may_merge(*found):
        return q, k, v
    stack, part = found
    own = k is q and v is q
    merged = merge_part(stack, part, q, own_keys=own)
    if merged is None:
        return q, k, v
    keys = merged.tokens if merged.keys is None else merged.keys
    return (merged.tokens, keys, keys) if own else (merged.tokens, k, v)


def _unmerge(number: int, n: Tensor, options: Options) -> Tensor:
    """Return the output of an attention [B, N, C]."""
    found = _part_in(number, options)
    unmerged = None if found is None else unmerge_part(*found, n)
    return n if unmerged is None else unmerged


def _part_in(number: int, options: Options) -> tuple[StackCall, Part] | None:
    """Return the attention that a patch is called for, in the call of this thread; None where it must not merge."""
    merging: CompiledMerging | None = options.get(_MERGING)
    if merging is None:
        return None
    engine, place = merging.engine, options.get("block_index", 0)
    for index, point in enumerate(engine.layout.stacks):
        stack = engine.stack_call(index)
        if point.host_block != options.get("block") or stack is None or point.level not in engine.config.levels:
            continue
        part = _attention(point, place, number)
        if part is not None and stack.call.is_active and not merging.others.replaces(f"attn{number}", point, place):
            stack.grid = _grid(options, engine, point)
            return stack, part
    return None


def _grid(options: Options, engine: SpeedEngine, stack: Stack) -> tuple[int, int]:
    """Return height and width in tokens as the host gives them; the Forge family gives those of the latent alone."""
    shape = options.get("activations_shape")
    if shape is not None:
        return int(shape[2]), int(shape[3])
    return engine.layout.levels[stack.level - 1].grid(*options["original_shape"][2:])


def _attention(stack: Stack, index: int, number: int) -> Part | None:
    """Return `attn1` or `attn2` of a block of a stack, where the block has it."""
    return next((part for part in stack.blocks[index].parts if part.path.endswith(f".attn{number}")), None)


def _name(stack: Stack) -> str:
    return "unknown" if stack.host_block is None else f"{stack.host_block[0]} {stack.host_block[1]}"
