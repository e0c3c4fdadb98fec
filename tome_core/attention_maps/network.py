"""Attention maps of a UNet in the original layout, such as AUTOMATIC1111's and Forge's, while a host samples with it.

Which rows of a call are which prompt's is read off the text that the call gets: hosts order, split, pad and repeat
rows as they like, and leave some out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..unet_walk import cross_attentions, uncompiled
from .maps import Grid, Phrase, on_grid, phrase_maps, slots_of
from .recorder import AttentionHooks
from .run import MERGED
from .sums import MapSums, PhraseMaps


@dataclass(frozen=True)
class StepPrompts:
    """The prompts of one step of a sampler, as they are handed to the network.

    Attributes:
        rows: [n, T, D], those of each prompt.
        images: of each prompt, the image of the batch that it is for; an image may have several.
        phrases: of each prompt, what to map.
        latent: height and width of the latent.
    """

    rows: Tensor
    images: tuple[int, ...]
    phrases: tuple[tuple[Phrase, ...], ...]
    latent: Grid


class PhraseRecorder(AttentionHooks):
    """Maps of every phrase, summed up over the calls of a network, or of one network after another.

    Nothing that a network computes changes, and an error in here ends the recording alone.

    Args:
        prompts: gives the prompts of the step under way; None where there are none.
    """

    def __init__(self, prompts: Callable[[], StepPrompts | None]) -> None:
        super().__init__()
        self._prompts = prompts
        self._sums: dict[int, MapSums] = {}  # by image
        self._attached: tuple[nn.Module, Any] | None = None
        self._has_failed = False
        # of the step under way, and of the call in it
        self._step: StepPrompts | None = None
        self._waiting: list[int] = []  # prompts that no row was found for yet: equal ones are taken in their order
        self._groups: list[_Rows] = []
        self._batch = 0
        self._options: Mapping[str, Any] = {}

    def attach(self, network: nn.Module, merging: Any = None) -> None:
        """Read a network from now on, in place of an earlier one; attaching the same again does nothing.

        Args:
            network: a UNet in the original layout. Of another one, or a compiled one, there are no maps, which a note
                says.
            merging: what merges image tokens in it, with a `plan_of` as `SpeedHandle` has it; None where nothing does,
                or where the options of a call say it.
        """
        if self._attached is not None and self._attached[0] is network and self._attached[1] is merging:
            return
        self.close()
        found: dict[nn.Module, list[nn.Module]] = {}
        for _, _, transformer, attention in cross_attentions(uncompiled(network)):
            found.setdefault(transformer, []).append(attention)
        if uncompiled(network) is not network or getattr(network, "_compiled_call_impl", None) is not None:
            self._note("No maps: the network is compiled.")
        elif not found:
            self._note(f"No maps: {type(network).__name__} is no UNet with cross-attention (SD 1.x, SD 2.x, SDXL).")
        else:
            self._install(network, found)
            self._attached = (network, merging)

    def close(self) -> None:
        """Take every hook off the network; the maps stay. Closing again does nothing."""
        super().close()
        self._attached = self._step = None
        self._groups.clear()

    def take(self) -> dict[int, PhraseMaps]:
        """Return the maps of each image that has some, by its number, and forget them."""
        found = {image: sums.result(tuple(self.notes)) for image, sums in self._sums.items()}
        self._sums = {}
        return {image: maps for image, maps in found.items() if maps is not None}

    @torch.no_grad()
    def begin_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._groups.clear()
        step = None if self._has_failed else self._prompts()
        if step is None:
            self._step = None
            return
        if step is not self._step:
            self._step, self._waiting = step, []
        try:
            self._find_rows(step, _argument("x", 0, args, kwargs), _argument("context", 2, args, kwargs))
        except Exception as error:  # whatever it is, it must not cost the picture
            self._fail(error)

    def end_call(self, output: object) -> None:
        self._groups.clear()

    def mask_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        return kwargs.get("mask")

    def read(self, layer: Any, q: Tensor, k: Tensor, mask: Tensor | None, grid: Grid) -> None:
        if not self._groups:
            return
        try:
            self._add(layer, q, k, mask, grid)
        except Exception as error:  # the same
            self._fail(error)

    def _read_transformer(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super()._read_transformer(module, args, kwargs)
        options = _argument("transformer_options", 2, args, kwargs)
        self._options = options if isinstance(options, Mapping) else {}

    def _find_rows(self, step: StepPrompts, x: object, context: object) -> None:
        """Find the rows of a call that are prompts with phrases."""
        if not isinstance(x, Tensor) or not isinstance(context, Tensor) or context.shape[1] < step.rows.shape[1]:
            return
        if x.shape[2:] != step.latent:
            self._note("Maps leave out calls on a part of the picture (tiles).")
            return
        length, rows = step.rows.shape[1], step.rows.to(context)
        starts = range(0, context.shape[1] - length + 1, length)
        same = torch.stack([_equal(context[:, start : start + length], rows) for start in starts]).tolist()
        found: dict[tuple[Any, ...], list[tuple[int, int]]] = {}
        for row in range(context.shape[0]):
            prompt = self._take_prompt([i for i, is_same in enumerate(same[0][row]) if is_same])
            if prompt is not None and step.phrases[prompt]:
                copies = tuple(start for start, each in zip(starts, same, strict=True) if each[row][prompt])
                found.setdefault((step.phrases[prompt], copies), []).append((row, prompt))
        self._batch = context.shape[0]
        for (phrases, copies), pairs in found.items():
            self._groups.append(_Rows(phrases, copies, [row for row, _ in pairs], [self._key(i) for _, i in pairs]))

    def _take_prompt(self, same: list[int]) -> int | None:
        """Return which of equal prompts a row is: each comes once before any comes again."""
        if not same:
            return None
        if not set(same) & set(self._waiting):
            self._waiting += same
        prompt = next(i for i in same if i in self._waiting)
        self._waiting.remove(prompt)
        return prompt

    def _key(self, prompt: int) -> tuple[int, int]:
        """Return the image of a prompt of this step, and its number among those of that image."""
        images = [] if self._step is None else self._step.images
        return images[prompt], images[:prompt].count(images[prompt])

    def _add(self, layer: Any, q: Tensor, k: Tensor, mask: Tensor | None, grid: Grid) -> None:
        slots = None
        if q.shape[0] != self._batch or k.shape[0] != self._batch:
            self._note("Maps leave out layers that another extension cuts into tiles.")
            return
        if q.shape[1] != grid[0] * grid[1]:
            slots = slots_of(self._plan(grid, q.shape[1]), q, grid)
            if slots is None:
                self._note(f"Maps leave out {q.shape[1]} merged tokens on a grid of {grid[0]} x {grid[1]}.")
                return
        scale = getattr(layer, "scale", None)
        for group in self._groups:
            own = mask[group.rows] if isinstance(mask, Tensor) and mask.shape[0] == self._batch else mask
            given = (q[group.rows], k[group.rows], layer.heads, group.phrases, group.copies)
            maps = on_grid(
                phrase_maps(*given, scale=scale, mask=own), None if slots is None else slots[group.rows], grid
            )
            labels = tuple(phrase.label for phrase in group.phrases)
            for (image, number), each in zip(group.keys, maps, strict=True):
                sums = self._sums.setdefault(image, MapSums())
                sums.open((number, labels), labels)
                sums.add((number, labels), each.unsqueeze(0))

    def _plan(self, grid: Grid, kept: int) -> Any:
        """Return the plan by which the layer under way has merged its tokens, if anything knows it."""
        merging = None if self._attached is None else self._attached[1]
        if merging is not None:
            return merging.plan_of(grid, kept)
        return self._options[MERGED](self._options) if MERGED in self._options else None

    def _fail(self, error: Exception) -> None:
        self._has_failed = True
        self._groups.clear()
        self._note(f"Maps ended, {type(error).__name__}: {error}.")


@dataclass(frozen=True)
class _Rows:
    """Rows of a call whose prompts have the same phrases, at the same rows of each of their copies."""

    phrases: tuple[Phrase, ...]
    copies: tuple[int, ...]
    rows: list[int]
    keys: list[tuple[int, int]]


def _equal(texts: Tensor, prompts: Tensor) -> Tensor:
    """Return [B, n]: which of the texts [B, T, D] are which of the prompts [n, T, D]."""
    return torch.stack([(texts == prompt).flatten(1).all(1) for prompt in prompts], dim=1)


def _argument(name: str, position: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[position] if len(args) > position else kwargs.get(name)
