"""Twins of modules: the same weights without hooks, to run them aside unseen."""

import copy
import sys
from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from .diffusers_calls import is_own_processor

_OWN_FORWARD = ("forward", "_hf_hook", "_old_forward", "_compiled_call_impl")  # what others set on a module itself


def bare_twin(module: nn.Module, device: str | None = None) -> nn.Module:
    """Return a module that shares the weights of another and knows none of its hooks and wrappers, in eval mode.

    Whatever watches the original sees nothing of what the twin does. An attention processor that is not one of
    diffusers' own is replaced by the one that its attention starts with.

    Args:
        module: it stays as it is.
        device: "meta" for a twin without values, which computes shapes alone; None to share the values.
    """
    twin = module.__class__.__new__(module.__class__)
    state = {name: _fresh(name, value) for name, value in vars(module).items() if name not in _OWN_FORWARD}
    for kind in ("_parameters", "_buffers"):
        state[kind] = {name: _on(value, device) for name, value in state[kind].items()}
    state["_modules"] = {
        name: None if child is None else bare_twin(child, device) for name, child in module._modules.items()
    }
    twin.__dict__.update(state, training=False)
    processor = getattr(twin, "processor", None)
    if processor is not None and not is_own_processor(processor):
        vars(twin).pop("processor", None)
        twin._modules.pop("processor", None)
        vars(twin)["processor"] = _first_processor(module)
    return twin


def _fresh(name: str, value: Any) -> Any:
    """Return an empty dictionary of hooks, and anything else as a shallow copy that the twin may change."""
    if name.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called")) and isinstance(value, dict):
        return OrderedDict()
    return copy.copy(value) if isinstance(value, dict | list | set) else value


def _on(value: torch.Tensor | None, device: str | None) -> Any:
    if value is None or device is None:
        return value
    empty = torch.empty_like(value, device=device)
    return nn.Parameter(empty, requires_grad=False) if isinstance(value, nn.Parameter) else empty


def _first_processor(attention: nn.Module) -> object:
    """Return a new processor of the kind that diffusers gives to an attention by itself."""
    return sys.modules[_diffusers_class(attention).__module__].AttnProcessor2_0()


def _diffusers_class(module: nn.Module) -> type:
    return next(cls for cls in type(module).__mro__ if cls.__module__.startswith("diffusers."))
