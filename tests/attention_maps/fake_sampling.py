"""Sampling runs of the fake host in which conditionings have numbers, areas and extras, as ComfyUI's have."""

from __future__ import annotations

import uuid
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tests.hosts.fake import host
from tests.hosts.fake.protocol import ModelPatcher
from tests.hosts.fake.unet import TEXT_WIDTH
from tome_core.attention_maps import PHRASES_KEY, Phrase

PHRASES = (Phrase("circle", (3,)), Phrase("square", (7,)))


class Prompt(NamedTuple):
    """What travels with a conditioning."""

    phrases: tuple[Phrase, ...]


class Patcher(ModelPatcher):
    def remove_wrappers_with_key(self, wrapper_type: str, key: str) -> None:
        self.wrappers.get(wrapper_type, {}).pop(key, None)

    def clone(self) -> Patcher:
        other = super().clone()
        other.__class__ = Patcher
        return other  # type: ignore[return-value]


class Guider(host.Guider):
    """A guider whose conds are entries with numbers; those of one side run one after another, each in its area."""

    def __init__(self, patcher: ModelPatcher, conds: dict[str, list[dict[str, Any]]], cfg: float) -> None:
        super().__init__(patcher, {}, cfg, ())
        self.conds = conds

    def _euler(self, noise: Tensor, sigmas: Tensor, fail_at: int | None) -> Tensor:
        assert self.listener is not None or fail_at is None
        x = noise * sigmas[0]
        for step in range(len(sigmas) - 1):
            denoised = self._guided(x, sigmas[step], sigmas)
            x = x + (x - denoised) / sigmas[step] * (sigmas[step + 1] - sigmas[step])
            if self.listener is not None:
                self.listener(step, denoised, x, len(sigmas) - 1)
        return x

    listener: Any = None

    def sample(self, noise: Tensor, sigmas: Tensor, fail_at: int | None = None) -> Tensor:
        def outer(noise: Tensor, *given: Any) -> Tensor:
            self.listener = given[4]
            return self._euler(noise, sigmas, fail_at)

        wrappers = self.model_options["transformer_options"]["wrappers"].get("outer_sample", {})
        executor: Any = outer
        for wrapper in reversed([each for keyed in wrappers.values() for each in keyed]):
            executor = _Executor(wrapper, executor, self)
        return executor(noise, None, None, sigmas, None, self.callback, True, 0)

    callback: Any = None

    def _guided(self, x: Tensor, sigma: Tensor, sigmas: Tensor) -> Tensor:
        entries = [(side, entry) for side in ("negative", "positive") for entry in self.conds.get(side, [])]
        if self._cfg == 1:
            entries = [pair for pair in entries if pair[0] == "positive"]
        sums = {side: torch.zeros_like(x) for side, _ in entries}
        for group in [entries] if self.together else [[pair] for pair in entries]:
            for own in [group] if all("area" not in entry for _, entry in group) else [[pair] for pair in group]:
                for (side, entry), out in zip(own, self._call(own, x, sigma, sigmas), strict=True):
                    height, width, top, left = entry.get("area", (*x.shape[2:], 0, 0))
                    sums[side][:, :, top : top + height, left : left + width] += out
        uncond = sums.get("negative", sums["positive"])
        return uncond + (sums["positive"] - uncond) * self._cfg

    def _call(self, own: list[Any], x: Tensor, sigma: Tensor, sigmas: Tensor) -> tuple[Tensor, ...]:
        height, width, top, left = own[0][1].get("area", (*x.shape[2:], 0, 0))
        rows = x[:, :, top : top + height, left : left + width].repeat(len(own), 1, 1, 1)
        longest = max(entry["cross_attn"].shape[1] for _, entry in own)
        texts = [entry["cross_attn"].repeat(1, longest // entry["cross_attn"].shape[1], 1) for _, entry in own]
        options = {**self.model_options["transformer_options"], "sigmas": sigma.reshape(1), "sample_sigmas": sigmas}
        options["cond_or_uncond"] = [{"positive": 0, "negative": 1}[side] for side, _ in own]
        options["uuids"] = [entry["uuid"] for _, entry in own]
        text = torch.cat([text.expand(len(x), -1, -1) for text in texts])
        return self._apply(rows, sigma.expand(len(rows)), text, options, None).chunk(len(own))


class _Executor:
    def __init__(self, wrapper: Any, following: Any, owner: object) -> None:
        self._wrapper, self._following, self.class_obj = wrapper, following, owner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._wrapper(_Bound(self._following, self.class_obj), *args, **kwargs)


class _Bound:
    def __init__(self, following: Any, owner: object) -> None:
        self._following, self.class_obj = following, owner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._following(*args, **kwargs)


def new_model() -> Patcher:
    model = host.new_model()
    model.__class__ = Patcher
    return model  # type: ignore[return-value]


def bound(*phrases: Phrase) -> Prompt:
    return Prompt(phrases or PHRASES)


def entry(prompt: Prompt | None = None, *, seed: int = 1, rows: int = 77, **more: Any) -> dict[str, Any]:
    """Return what the host makes of one entry of a conditioning."""
    text = torch.randn(1, rows, TEXT_WIDTH, generator=torch.Generator().manual_seed(seed))
    phrases = {} if prompt is None else {PHRASES_KEY: prompt}
    return {"cross_attn": text, "uuid": uuid.uuid4(), **phrases, **more}


@torch.inference_mode()
def run(
    model: Patcher,
    positive: list[dict[str, Any]],
    negative: list[dict[str, Any]] | None = None,
    *,
    size: tuple[int, int] = (12, 10),
    batch: int = 1,
    steps: int = 3,
    cfg: float = 5.0,
    seed: int = 0,
    together: bool = True,
    callback: Any = None,
) -> Tensor:
    """Return latents [B, 4, height, width]."""
    noise = torch.cat(
        [torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(seed + i)) for i in range(batch)]
    )
    guider = Guider(model, {"positive": positive, "negative": negative or [entry(seed=2)]}, cfg)
    guider.together, guider.callback = together, callback
    levels = model.model.model_sampling.sigmas[torch.linspace(999, 0, steps + 1).long()[:-1]]
    return guider.sample(noise, torch.cat([levels, torch.zeros(1)]))
