"""The attention maps of one sampling run, summed up while it goes on."""

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from .attention import Grid, attention_maps, resize, slots_of, unmerge
from .bound import BoundPrompt
from .conditioning import GROUPS_KEY
from .map_layers import Layers

Options = Mapping[str, Any]
_MERGED: Final = "tome_speed_merged"
"""Of a function in the options: from a patch's options to the `MergePlan` of the tokens that it sees, or None."""


@dataclass(frozen=True)
class PhraseMaps:
    """Where each phrase drew attention, over one sampling run.

    Attributes:
        labels: the K phrases.
        maps: [images, K, height, width] float32 on the CPU, on the finest grid that has cross-attention; each value is
            a share of attention, 0 to 1, as a mean over layers and calls.
        calls: how many layers of how many calls were read, all told.
        notes: what was left out and why, each sentence once.
    """

    labels: tuple[str, ...]
    maps: Tensor
    calls: int
    notes: tuple[str, ...]


class MapRun:
    """Reads the cross-attentions of one sampling run, of the rows in which a prompt with groups is read.

    Args:
        guider: what the host samples with; its `conds` hold the prompts of the run, and their groups.
        layers: the cross-attentions of the network.
        latent: height and width of the whole latent.
    """

    def __init__(self, guider: Any, layers: Layers, latent: Grid) -> None:
        self._guider = guider
        self._layers = layers
        self._latent = latent
        self._prompts = _prompts(guider.conds)
        self._starts = _starts(self._prompts)
        self._totals: dict[Grid, tuple[Tensor, Tensor]] = {}  # [images, K, h, w], and [K, h, w] how often each was read
        self._notes: list[str] = []
        self._calls = 0
        self._lock = threading.Lock()  # newer hosts run several devices at once

    def __deepcopy__(self, memo: object) -> "MapRun":
        return self  # some packs copy a model's options in the middle of a run

    @property
    def labels(self) -> tuple[str, ...]:
        """The phrases of all prompts of the run."""
        return tuple(label for prompt in self._starts.values() for label in prompt[1])

    @torch.no_grad()
    def record(self, n: Tensor, context: object, options: Options) -> None:
        """Read one cross-attention.

        Args:
            n: [rows, N, C], its input on the side of the image, of all entries of a call. Where image tokens are
                merged, the options have the plan.
            context: [rows, T, D], its input on the side of the text.
            options: what the host tells its patches.
        """
        entries = list(zip(options.get("cond_or_uncond", ()), options.get("uuids", ()), strict=False))
        if not entries or not isinstance(context, Tensor) or n.shape[0] % len(entries):
            self._note("a call did not tell whose rows are whose: it was left out")
            return
        images = n.shape[0] // len(entries)
        slots = _slots(n, options)
        for place, (side, uuid) in enumerate(entries):
            prompt = self._prompts.get(uuid) if side == 0 or not self._is_two_sided else None
            if prompt is not None:
                rows = slice(place * images, (place + 1) * images)
                own = None if slots is None else slots[rows]
                self._record(prompt, self._entry(uuid), n[rows], own, context[rows], options)

    def result(self) -> PhraseMaps | None:
        """Return the maps so far; None before anything was read."""
        with self._lock:
            totals = dict(self._totals)
            if not totals:
                return None
            finest = max(totals)
            total = torch.stack([resize(maps, finest) for maps, _ in totals.values()]).sum(0)
            times = torch.stack([resize(times.unsqueeze(0), finest) for _, times in totals.values()]).sum(0)
            is_read = self._totals[finest][1] > 0  # coarser grids reach over the edge of an area
            maps = torch.where(is_read, total / times.clamp_min(1e-6), torch.zeros_like(total))
            return PhraseMaps(self.labels, maps.float().cpu(), self._calls, self.notes)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out so far and why."""
        return tuple(self._notes)

    @property
    def _is_two_sided(self) -> bool:
        """Whether 0 is the positive prompt's side in a call, as it is unless a guider has sides of its own."""
        return set(self._guider.conds) <= {"positive", "negative"}

    def _entry(self, uuid: object) -> Mapping[str, Any]:
        found = [c for side, conds in self._guider.conds.items() if side != "negative" for c in conds]
        return next((c for c in found if c.get("uuid") == uuid), {})

    def _record(
        self,
        prompt: BoundPrompt,
        entry: Mapping[str, Any],
        n: Tensor,
        slots: Tensor | None,
        context: Tensor,
        options: Options,
    ) -> None:
        grid = _grid(options)
        layer = self._layers.get((*options["block"], options.get("block_index", 0)))
        if layer is None or (slots is None and n.shape[1] != grid[0] * grid[1]):
            self._note(f"{n.shape[1]} tokens on a grid of {grid[0]} x {grid[1]} were left out")
            return
        length = _length(entry, context)
        maps = _maps(layer, n, context, prompt, length)  # [images, K, N], or M where tokens are merged
        maps = maps if slots is None else unmerge(maps, slots)
        self._add(prompt, maps.unflatten(2, grid), entry.get("area"))

    def _add(self, prompt: BoundPrompt, maps: Tensor, area: Any) -> None:
        """Add maps [images, K, h, w] where they belong in the whole picture."""
        grid: Grid = (maps.shape[2], maps.shape[3])
        top, left = 0, 0
        if area is not None:
            height, width = (min(area[i], self._latent[i] - area[2 + i]) for i in range(2))  # as the host cuts it off
            factor = _factor((height, width), grid)
            grid = (-(-self._latent[0] // factor), -(-self._latent[1] // factor))
            top, left = min(round(area[2] / factor), grid[0] - 1), min(round(area[3] / factor), grid[1] - 1)
            maps = maps[..., : grid[0] - top, : grid[1] - left]
        start, count = self._starts[id(prompt)][0], maps.shape[1]
        here = (slice(start, start + count), slice(top, top + maps.shape[2]), slice(left, left + maps.shape[3]))
        with self._lock:
            if grid not in self._totals:
                shape = (len(self.labels), *grid)
                self._totals[grid] = (maps.new_zeros(maps.shape[0], *shape), maps.new_zeros(shape))
            total, times = self._totals[grid]
            total[(slice(None), *here)] += maps.to(total.device)
            times[here] += 1
            self._calls += 1

    def _note(self, sentence: str) -> None:
        if sentence not in self._notes:
            self._notes.append(sentence)


def _grid(options: Options) -> Grid:
    height, width = options["activations_shape"][-2:]
    return int(height), int(width)


def _slots(n: Tensor, options: Options) -> Tensor | None:
    """Return [rows, N], the place in `n` [rows, M, C] of each token, where the speed room has merged them."""
    if _MERGED not in options or n.shape[1] == math.prod(_grid(options)):
        return None
    return slots_of(options[_MERGED](options), n, _grid(options))


def _prompts(conds: Mapping[str, list[dict[str, Any]]]) -> dict[object, BoundPrompt]:
    """Return the prompts with groups by the number that the host gives each entry of a run."""
    found = [entry for side, entries in conds.items() if side != "negative" for entry in entries]
    return {entry["uuid"]: entry[GROUPS_KEY] for entry in found if GROUPS_KEY in entry}


def _starts(prompts: Mapping[object, BoundPrompt]) -> dict[int, tuple[int, list[str]]]:
    """Return for each prompt, by identity, the place of its first phrase among all, and its phrases."""
    starts: dict[int, tuple[int, list[str]]] = {}
    for prompt in prompts.values():  # one prompt in two areas is one
        if id(prompt) not in starts:
            starts[id(prompt)] = (sum(len(labels) for _, labels in starts.values()), prompt.parse.labels)
    return starts


def _factor(area: Grid, grid: Grid) -> int:
    """Return how many pixels of the latent are one of a grid, given both sides of an area on each.

    A UNet halves and rounds up, so it is the power of two that does just that; where another pack shrinks otherwise,
    the nearest whole number.
    """
    powers = (2**power for power in range(7))
    rounded_up = (factor for factor in powers if all(-(-a // factor) == g for a, g in zip(area, grid, strict=True)))
    return next(rounded_up, max(1, round(area[0] / grid[0])))


def _length(entry: Mapping[str, Any], context: Tensor) -> int:
    """Return the number of rows of an entry's own prompt, which the host repeats to match a longer one beside it."""
    own = entry.get("cross_attn")
    length = own.shape[1] if isinstance(own, Tensor) else context.shape[1]
    return length if context.shape[1] % length == 0 else context.shape[1]


def _maps(layer: Any, n: Tensor, context: Tensor, prompt: BoundPrompt, length: int) -> Tensor:
    """Return [images, K, N]: the share of attention of each phrase, over all copies of its row."""
    copies = context.shape[1] // length
    rows = [group.noun[0] + copy * length for group in prompt.groups for copy in range(copies)]
    maps = attention_maps(layer.to_q(n), layer.to_k(context), layer.heads, rows)
    return maps.unflatten(1, (len(prompt.groups), copies)).sum(2).float()
