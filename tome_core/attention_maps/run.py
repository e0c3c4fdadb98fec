"""The attention maps of one sampling run, summed up while it goes on."""

import math
from collections.abc import Mapping
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn

from .maps import Grid, Phrase, on_grid, phrase_maps, slots_of
from .sums import MapSums, PhraseMaps

Options = Mapping[str, Any]
Layers = Mapping[tuple[str, int, int], nn.Module]
"""Cross-attentions by the host's names: ("input", 4, 0) is block 4's first transformer."""

PHRASES_KEY: Final = "tome_binding"
"""The key of a conditioning's extras under which its phrases travel, as `HasPhrases`."""

MERGED: Final = "tome_speed_merged"
"""Of a function in the options: from a patch's options to the `MergePlan` of the tokens that it sees, or None."""


class HasPhrases(Protocol):
    """A prompt with phrases."""

    @property
    def phrases(self) -> tuple[Phrase, ...]: ...


class MapRun:
    """Reads the cross-attentions of one sampling run, of the rows in which a prompt with phrases is read.

    Args:
        guider: what the host samples with; its `conds` hold the prompts of the run, and their phrases.
        layers: the cross-attentions of the network.
        latent: height and width of the whole latent.
    """

    def __init__(self, guider: Any, layers: Layers, latent: Grid) -> None:
        self._guider = guider
        self._layers = layers
        self._latent = latent
        positive = [entry for entry in self._positive() if PHRASES_KEY in entry]
        self._prompts: dict[object, HasPhrases] = {entry["uuid"]: entry[PHRASES_KEY] for entry in positive}
        self._sums = MapSums()
        for prompt in self._prompts.values():  # by identity, since one in two areas is one
            self._sums.open(id(prompt), tuple(phrase.label for phrase in prompt.phrases))
        self._notes: dict[str, None] = {}  # each sentence once, in order

    def __deepcopy__(self, memo: object) -> "MapRun":
        return self  # some packs copy a model's options in the middle of a run

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out so far and why."""
        return tuple(self._notes)

    @torch.no_grad()
    def record(self, n: Tensor, context: object, options: Options) -> None:
        """Read one cross-attention.

        Args:
            n: [rows, N, C], its input on the side of the image, of all entries of a call. Where image tokens are
                merged, the options have the plan.
            context: [rows, T, D], its input on the side of the text.
            options: what the host hands to its patches.
        """
        entries = list(zip(options.get("cond_or_uncond", ()), options.get("uuids", ()), strict=False))
        if not entries or not isinstance(context, Tensor) or n.shape[0] % len(entries):
            self._notes["a call did not say whose rows are whose: it was left out"] = None
            return
        images = n.shape[0] // len(entries)
        height, width = options["activations_shape"][-2:]
        grid = (int(height), int(width))
        is_whole = n.shape[1] == math.prod(grid)
        slots = slots_of(options[MERGED](options), n, grid) if not is_whole and MERGED in options else None
        layer: Any = self._layers.get((*options["block"], options.get("block_index", 0)))
        # 0 is the positive prompt's side in a call, unless a guider has sides of its own
        is_two_sided = set(self._guider.conds) <= {"positive", "negative"}
        for index, (side, uuid) in enumerate(entries):
            if uuid not in self._prompts or (side != 0 and is_two_sided):
                continue
            if layer is None or not (is_whole or slots is not None):
                self._notes[f"{n.shape[1]} tokens on a grid of {grid[0]} x {grid[1]} were left out"] = None
                return
            rows = slice(index * images, (index + 1) * images)
            entry = next((entry for entry in self._positive() if entry.get("uuid") == uuid), {})
            starts = range(0, context.shape[1], _row_count(entry, context))
            q, k = layer.to_q(n[rows]), layer.to_k(context[rows])
            maps = phrase_maps(q, k, layer.heads, self._prompts[uuid].phrases, starts)
            self._add(uuid, on_grid(maps, None if slots is None else slots[rows], grid), entry.get("area"))

    def result(self) -> PhraseMaps | None:
        """Return the maps so far; None before anything was read."""
        return self._sums.result(self.notes)

    def _positive(self) -> list[dict[str, Any]]:
        return [entry for side, entries in self._guider.conds.items() if side != "negative" for entry in entries]

    def _add(self, uuid: object, maps: Tensor, area: Any) -> None:
        """Add maps [images, K, h, w] where they belong in the whole picture."""
        grid: Grid = (maps.shape[2], maps.shape[3])
        top, left = 0, 0
        if area is not None:
            height, width = (min(area[i], self._latent[i] - area[2 + i]) for i in range(2))  # as the host cuts it off
            factor = _factor((height, width), grid)
            grid = (-(-self._latent[0] // factor), -(-self._latent[1] // factor))
            top, left = min(round(area[2] / factor), grid[0] - 1), min(round(area[3] / factor), grid[1] - 1)
            maps = maps[..., : grid[0] - top, : grid[1] - left]
        self._sums.add(id(self._prompts[uuid]), maps, grid, top, left)


def _row_count(entry: Mapping[str, Any], context: Tensor) -> int:
    """Return the number of rows of an entry's own prompt, which the host repeats to match a longer one beside it."""
    own = entry.get("cross_attn")
    length = own.shape[1] if isinstance(own, Tensor) else context.shape[1]
    return length if context.shape[1] % length == 0 else context.shape[1]


def _factor(area: Grid, grid: Grid) -> int:
    """Return how many pixels of the latent are one of a grid, given both sides of an area on each.

    A UNet halves and rounds up, so it is the power of two that does just that; where another pack shrinks otherwise,
    the nearest whole number.
    """
    powers = (2**power for power in range(7))
    rounded_up = (factor for factor in powers if all(-(-a // factor) == g for a, g in zip(area, grid, strict=True)))
    return next(rounded_up, max(1, round(area[0] / grid[0])))
