"""What other packs do to a model call, as far as it decides where tokens may merge (rule 10 of the house).

Our patches come last before a part and first after it, so that everybody else's see every token. What works between
the projections of an attention (a replace), or inside a block that is merged as a whole, cannot be served like that.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ..unet_walk import Block
from .compiling import is_compiled
from .patcher_layout import Place

Options = dict[str, Any]
Patch = Callable[..., Any]

IN_BLOCK = ("attn1_patch", "attn1_output_patch", "middle_patch", "attn2_patch", "attn2_output_patch")
_COMPILE_KEY = "torch.compile"  # under which ComfyUI's own node puts its wrapper


class OtherPatches:
    """The patches of other packs in one model call.

    Args:
        options: the call's `transformer_options`, without any of ours.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        patches = options.get("patches") or {}
        self._inside = [name for name in IN_BLOCK if patches.get(name)]
        self._replaced = options.get("patches_replace") or {}
        self._wrappers = options.get("wrappers") or {}

    def replaces(self, attention: str, block: Block, index: int) -> bool:
        """Return whether another pack computes "attn1" or "attn2" of a block itself."""
        slots = self._replaced.get(attention) or {}
        return block in slots or (*block, index) in slots

    def span_obstacle(self, place: Place, indices: range) -> str | None:
        """Return why some blocks of a transformer in a row must get every token, if they must."""
        if self._inside:
            return f"another patch looks inside the blocks ({', '.join(self._inside)})"
        for attention in ("attn1", "attn2"):
            if any(self.replaces(attention, place.block, index) for index in indices):
                return f"another pack replaces {attention} in block {place.block[0]} {place.block[1]}"
        return None

    def compiles(self, network: object) -> bool:
        """Return whether the network is compiled, or will be when the call comes to it."""
        return is_compiled(network) or bool((self._wrappers.get("apply_model") or {}).get(_COMPILE_KEY))


def with_patches(options: Mapping[str, Any], first: Mapping[str, Patch], last: Mapping[str, Patch]) -> Options:
    """Return a call's options with patches of ours in front of others or behind them; the given ones stay as they are.

    Args:
        options: the call's `transformer_options`.
        first, last: patches by the host's name of their place.
    """
    patches = dict(options.get("patches") or {})
    for name, patch in first.items():
        patches[name] = [patch, *patches.get(name, [])]
    for name, patch in last.items():
        patches[name] = [*patches.get(name, []), patch]
    return {**options, "patches": patches}
