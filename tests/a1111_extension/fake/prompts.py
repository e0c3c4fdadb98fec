"""What a webui has of prompts: its parser, its encoded batches and their cache, without a webui.

`install()` puts `modules.prompt_parser`, `modules.devices` and `modules.shared` in place. The parser knows AND,
`[a:b:0.3]` and `[a|b]`, not nested; prompts are encoded by `tests.binding.fake_webui`.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections import namedtuple
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tests.binding.fake_webui import Encoder

Schedule = namedtuple("Schedule", ["end_at_step", "cond"])
_CHANGE = re.compile(r"\[([^:|\[\]]*):([^:|\[\]]*):([\d.]+)\]")
_ALTERNATE = re.compile(r"\[([^:\[\]]*\|[^:\[\]]*)\]")


class Part:
    """One AND part of an image's prompt."""

    def __init__(self, schedules: list[Schedule], weight: float = 1.0) -> None:
        self.schedules, self.weight = schedules, weight


class Batch:
    """The encoded prompts of a batch."""

    def __init__(self, shape: tuple[int, ...], batch: list[list[Part]]) -> None:
        self.shape, self.batch = shape, batch


def get_multicond_prompt_list(prompts: list[str]) -> tuple[list[list[tuple[int, float]]], list[str], dict[str, int]]:
    numbers: dict[str, int] = {}
    found = []
    for prompt in prompts:
        parts = [re.fullmatch(r"(.*?)(?:\s*:\s*(-?[\d.]+))?\s*", x, re.S) for x in re.split(r"\bAND\b", prompt)]
        found.append([(numbers.setdefault(x[1], len(numbers)), float(x[2] or 1)) for x in parts if x])
    return found, list(numbers), numbers


def get_learned_conditioning_prompt_schedules(
    prompts: list[str], steps: int, hires_steps: int | None = None, old: bool = False
) -> list[list[list[Any]]]:
    return [_schedule(prompt, steps, None if old else hires_steps) for prompt in prompts]


def _schedule(prompt: str, steps: int, hires_steps: int | None) -> list[list[Any]]:
    last, before = (steps, 0) if hires_steps is None else (hires_steps, 1)
    ends = {last}
    for change in _CHANGE.finditer(prompt):
        ends.add(min(last, _end(change[3], steps, last, before)))
    if _ALTERNATE.search(prompt):
        ends |= set(range(1, last + 1))

    def at(end: int) -> str:
        text = _CHANGE.sub(lambda x: x[1] if end <= _end(x[3], steps, last, before) else x[2], prompt)
        return _ALTERNATE.sub(lambda x: x[1].split("|")[(end - 1) % len(x[1].split("|"))], text)

    return [[end, at(end)] for end in sorted(end for end in ends if end >= 1)]


def _end(number: str, steps: int, last: int, before: int) -> int:
    return int((float(number) - before) * last) if "." in number else int(number) - before * steps


class Stack(dict):
    """SDXL's dictionary of a step."""

    @property
    def shape(self) -> torch.Size:
        return self["crossattn"].shape


def reconstruct_multicond_batch(c: Batch, step: int) -> tuple[list[list[tuple[int, float]]], Any]:
    found, places = [], []
    for parts in c.batch:
        places.append([(len(found) + number, part.weight) for number, part in enumerate(parts)])
        for part in parts:
            active = next((x for x in part.schedules if step <= x.end_at_step), part.schedules[0])
            found.append(active.cond)
    if isinstance(found[0], dict):
        return places, Stack({key: _stack([x[key] for x in found]) for key in found[0]})
    return places, _stack(found)


def _stack(rows: list[Tensor]) -> Tensor:
    longest = max(len(x) for x in rows)
    padded = [torch.cat([x, x[-1:].expand(longest - len(x), *x.shape[1:])]) for x in rows]
    return torch.stack(padded)


def encode(model: Any, prompts: list[str], steps: int, hires_steps: int | None = None) -> Batch:
    """Return the encoded prompts of a batch; a text that comes twice is encoded once."""
    places, texts, _ = get_multicond_prompt_list(prompts)
    encoded = []
    for schedule in get_learned_conditioning_prompt_schedules(texts, steps, hires_steps):
        conds = model.encode([text for _, text in schedule])
        encoded.append([Schedule(end, cond) for (end, _), cond in zip(schedule, conds, strict=True)])
    return Batch((len(prompts),), [[Part(encoded[i], weight) for i, weight in parts] for parts in places])


class Model:
    """A host's model of Forge's kind: SD 1.x, or SDXL, whose rows come in a dictionary."""

    def __init__(self, **engines: Encoder) -> None:
        vars(self).update({f"text_processing_engine{name}": encoder for name, encoder in engines.items()})
        self.encoders = list(engines.values())

    def encode(self, texts: list[str]) -> list[Any]:
        rows = torch.cat([encoder.encode(texts) for encoder in self.encoders], dim=2)
        if len(self.encoders) == 1:
            return list(rows)
        return [{"crossattn": own, "vector": own.sum(0)} for own in rows]


def new_job(model: Any, prompts: list[str], steps: int = 10, **more: Any) -> SimpleNamespace:
    """Return a job whose prompts are as the host encodes them."""
    known = {"prompts": prompts, "firstpass_steps": steps, "is_hr_pass": False, "sd_model": model}
    return SimpleNamespace(**known | more)


def params(job: Any, cond: Any, step: int = 0, size: tuple[int, int] = (32, 32)) -> SimpleNamespace:
    """Return what the host hands to its denoiser callback at a step."""
    _, text = reconstruct_multicond_batch(cond, step)
    sampler = SimpleNamespace(sampler_extra_args={"cond": cond})
    denoiser = SimpleNamespace(step=step, sampler=sampler, p=job)
    return SimpleNamespace(text_cond=text, text_uncond=None, denoiser=denoiser, x=torch.zeros(1, 4, *size))


def modules() -> dict[str, ModuleType]:
    """Return the host's modules by name."""
    parser, devices, shared = (ModuleType(f"modules.{name}") for name in ("prompt_parser", "devices", "shared"))
    for function in (get_multicond_prompt_list, get_learned_conditioning_prompt_schedules, reconstruct_multicond_batch):
        setattr(parser, function.__name__, function)
    devices.autocast = contextlib.nullcontext  # type: ignore[attr-defined]
    shared.opts = SimpleNamespace(emphasis="Original")  # type: ignore[attr-defined]
    host = ModuleType("modules")
    host.prompt_parser, host.devices, host.shared = parser, devices, shared  # type: ignore[attr-defined]
    return {"modules": host} | {
        f"modules.{name}": getattr(host, name) for name in ("prompt_parser", "devices", "shared")
    }


@contextlib.contextmanager
def installed() -> Iterator[dict[str, ModuleType]]:
    """Put the host's modules in place; what was imported with them goes when they do."""
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_ours(name)}
    sys.modules.update(host := modules())
    try:
        yield host
    finally:
        for name in [name for name in sys.modules if _is_ours(name)]:
            del sys.modules[name]
        sys.modules.update(before)


def _is_ours(name: str) -> bool:
    return name.split(".")[0] in ("modules", "a1111_extension")
