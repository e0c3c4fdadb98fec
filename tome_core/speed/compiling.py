"""What torch.compile must not trace: plans are made outside a compiled call, and enter it as tensors."""

import inspect
from collections.abc import Callable
from typing import Any

import torch

from ..unet_walk import uncompiled

# True only where a call is being traced; older torch has no such function
is_compiling: Callable[[], bool] = getattr(torch.compiler, "is_compiling", bool)
_REASON = "token merging makes its plans outside the compiled call: compile the model without fullgraph=True"


def outside(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs uncompiled wherever it is called."""
    disable: Any = torch.compiler.disable
    takes_reason = "reason" in inspect.signature(disable).parameters  # older torch gives none
    return disable(function, reason=_REASON) if takes_reason else disable(function)


def is_compiled(model: Any) -> bool:
    """Return whether a model was compiled, by `torch.compile(model)` or by `model.compile()`."""
    return uncompiled(model) is not model or getattr(model, "_compiled_call_impl", None) is not None


def drop_compiled_calls() -> None:
    """Let every compiled model compile anew: one that did does not look whether hooks came or went since."""
    torch.compiler.reset()
