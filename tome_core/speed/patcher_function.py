"""Where a host has no keyed wrappers (Forge): its one slot around a model call.

Such a host tells of no sampling run: one begins where the noise goes up again, and none is told to be over. Until then
the latents and plans of the last one, a few MB, stay in memory.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .patcher_wrappers import SpeedWrappers

SLOT = "model_function_wrapper"  # in a patcher's `model_options`


class FunctionWrapper:
    """Token merging in the slot, around whatever was in it before.

    Args:
        wrappers: what merges.
        model: the host's, with its `diffusion_model` and its noise levels.
        other: another pack's wrapper; None where the slot was empty.
    """

    def __init__(self, wrappers: SpeedWrappers, model: Any, other: Callable[..., Tensor] | None) -> None:
        self.other = other
        self._wrappers = wrappers
        self._model = model

    def __deepcopy__(self, memo: dict[int, Any]) -> "FunctionWrapper":
        return self

    def __call__(self, apply_model: Callable[..., Tensor], given: dict[str, Any]) -> Tensor:
        """Run a model call, as the host asks for it: with `input`, `timestep` and, as `c`, all that is named."""
        executor = _Executor(self._model, self.other, apply_model, given)
        return self._wrappers.around_call(executor, given["input"], given["timestep"], **given["c"])


class _Executor:
    """Goes on as the host's own executors do where it has them."""

    def __init__(
        self, model: Any, other: Callable[..., Tensor] | None, apply_model: Callable[..., Tensor], given: dict[str, Any]
    ) -> None:
        self.class_obj = model
        self._other, self._apply_model, self._given = other, apply_model, given

    def __call__(
        self, x: Tensor, t: Tensor, c_concat: Any, c_crossattn: Any, control: Any, options: Any, **named: Any
    ) -> Tensor:
        ours = {"c_concat": c_concat, "c_crossattn": c_crossattn, "control": control}
        c = (
            named
            | {name: value for name, value in ours.items() if value is not None}
            | {"transformer_options": options}
        )
        if self._other is not None:
            return self._other(self._apply_model, {**self._given, "input": x, "timestep": t, "c": c})
        return self._apply_model(x, t, **c)
