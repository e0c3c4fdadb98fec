"""Token merging where a host has one slot around a model call and no keyed wrappers, as Forge."""

from typing import Any

import torch

from tests.hosts.fake import host
from tome_core.speed import SpeedConfig
from tome_core.speed.patcher import patch_speed


class OneSlotPatcher:
    """A patcher that shows what Forge's has, around the fake one that samples."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.model, self.model_options = inner.model, inner.model_options

    def clone(self) -> "OneSlotPatcher":
        return OneSlotPatcher(self._inner.clone())

    def sample(self, **settings: Any) -> torch.Tensor:
        """Sample with the slot around each model call."""
        clone = self._inner.clone()
        wrapper = self.model_options.get("model_function_wrapper")

        def around(executor: Any, x: Any, t: Any, concat: Any, text: Any, control: Any, options: Any) -> Any:
            def apply_model(x: Any, t: Any, c_crossattn: Any, transformer_options: Any) -> Any:
                return executor(x, t, None, c_crossattn, None, transformer_options)

            c = {"c_crossattn": text, "transformer_options": options}
            return wrapper(apply_model, {"input": x, "timestep": t, "c": c, "cond_or_uncond": [1, 0]})

        if wrapper is not None:
            clone.add_wrapper_with_key("apply_model", "slot", around)
        return host.sample(clone, **settings)


def test_it_merges_as_with_wrappers():
    for form in ({}, {"parts": "block"}, {"metric": "estimate", "refresh": 2}, {"proportional": True}):
        wrapped, _ = patch_speed(host.new_model(), SpeedConfig(**form))
        clone, report = patch_speed(OneSlotPatcher(host.new_model()), SpeedConfig(**form))
        assert torch.equal(clone.sample(steps=5), host.sample(wrapped, steps=5))
        assert report.merged_calls == 5
        assert torch.equal(clone.sample(steps=5), host.sample(wrapped, steps=5))


def test_another_wrapper_in_the_slot_is_called_and_comes_back():
    calls = []

    def other(apply_model, given):
        calls.append(given["input"].shape)
        return apply_model(given["input"], given["timestep"], **given["c"])

    model = OneSlotPatcher(host.new_model())
    model.model_options["model_function_wrapper"] = other
    clone, report = patch_speed(model)
    clone.sample()
    assert len(calls) == report.merged_calls == 3
    again, _ = patch_speed(clone, SpeedConfig(ratio=0))
    assert again.model_options["model_function_wrapper"] is other


def test_the_later_replaces_the_earlier_and_a_neutral_one_leaves_an_empty_slot():
    model = OneSlotPatcher(host.new_model())
    first, earlier = patch_speed(model)
    second, later = patch_speed(first, SpeedConfig(ratio=0.25))
    second.sample()
    assert earlier.merged_calls == 0 and later.merged_calls == 3
    plain, _ = patch_speed(second, SpeedConfig(ratio=0))
    assert "model_function_wrapper" not in plain.model_options
    assert torch.equal(plain.sample(), model.sample())
