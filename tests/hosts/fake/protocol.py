"""The patcher protocol as ComfyUI has it, written anew for tests: a clone, its options, its wrappers, its patches."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any


class Executor:
    """What a wrapper is given: it calls the next wrapper or, at last, what is wrapped."""

    def __init__(self, original: Callable[..., Any], class_obj: object, wrappers: list[Callable[..., Any]]) -> None:
        self._original, self.class_obj, self._wrappers = original, class_obj, wrappers

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._wrappers:
            return self._original(*args, **kwargs)
        return self._wrappers[0](Executor(self._original, self.class_obj, self._wrappers[1:]), *args, **kwargs)


def run_wrapped(place: str, original: Callable[..., Any], owner: object, options: dict[str, Any], *args: Any) -> Any:
    """Call something within the wrappers of a place; the options are the last argument."""
    wrappers = [each for keyed in options.get("wrappers", {}).get(place, {}).values() for each in keyed]
    return Executor(original, owner, wrappers)(*args, options)


class ModelPatcher:
    """A light clone around a model that all clones share."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.model_options: dict[str, Any] = {"transformer_options": {}}
        self.wrappers: dict[str, dict[str, list[Callable[..., Any]]]] = {}

    def clone(self) -> ModelPatcher:
        """Return a patcher of the same model, with deep copies of its options."""
        other = ModelPatcher(self.model)
        other.model_options = copy.deepcopy(self.model_options)
        other.wrappers = {
            place: {key: list(each) for key, each in keyed.items()} for place, keyed in self.wrappers.items()
        }
        return other

    def add_wrapper_with_key(self, wrapper_type: str, key: str, wrapper: Callable[..., Any]) -> None:
        """Put a wrapper around a place."""
        self.wrappers.setdefault(wrapper_type, {}).setdefault(key, []).append(wrapper)

    def set_model_patch(self, patch: Callable[..., Any], name: str) -> None:
        """Add a patch to those of a place."""
        patches = self.model_options["transformer_options"].setdefault("patches", {})
        patches[name] = [*patches.get(name, []), patch]

    def set_model_attn1_patch(self, patch: Callable[..., Any]) -> None:
        """Add a patch in front of self-attention."""
        self.set_model_patch(patch, "attn1_patch")

    def set_model_attn1_output_patch(self, patch: Callable[..., Any]) -> None:
        """Add a patch behind self-attention."""
        self.set_model_patch(patch, "attn1_output_patch")

    def set_model_attn2_patch(self, patch: Callable[..., Any]) -> None:
        """Add a patch in front of cross-attention."""
        self.set_model_patch(patch, "attn2_patch")

    def set_model_patch_replace(self, patch: Callable[..., Any], name: str, block_name: str, number: int) -> None:
        """Let a patch stand in for an attention of a block."""
        slots = self.model_options["transformer_options"].setdefault("patches_replace", {}).setdefault(name, {})
        slots[block_name, number] = patch

    def set_model_attn1_replace(self, patch: Callable[..., Any], block_name: str, number: int) -> None:
        """Let a patch stand in for self-attention."""
        self.set_model_patch_replace(patch, "attn1", block_name, number)

    def set_model_attn2_replace(self, patch: Callable[..., Any], block_name: str, number: int) -> None:
        """Let a patch stand in for cross-attention."""
        self.set_model_patch_replace(patch, "attn2", block_name, number)
