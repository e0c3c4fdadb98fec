"""The attention maps of phrases, summed up layer by layer and call by call, on whatever grids they come."""

import threading
from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from .maps import Grid, resize


@dataclass(frozen=True)
class PhraseMaps:
    """Where each phrase drew attention, over one sampling run.

    Attributes:
        labels: the K phrases.
        maps: [images, K, height, width] float32 on the CPU, on the finest grid that has cross-attention; each value is
            a share of attention, 0 to 1, as a mean over layers and calls.
        calls: how many layers of how many calls were read, all in all.
        notes: what was left out and why, each sentence once.
    """

    labels: tuple[str, ...]
    maps: Tensor
    calls: int
    notes: tuple[str, ...]


class MapSums:
    """Sums of maps, of the same images each, in sets of phrases. Threads may add at the same time."""

    def __init__(self) -> None:
        self._labels: dict[Hashable, tuple[str, ...]] = {}
        self._totals: dict[Hashable, dict[Grid, tuple[Tensor, Tensor]]] = {}  # [images, K, h, w]; [h, w], how often
        self._calls = 0
        self._lock = threading.Lock()

    def open(self, key: Hashable, labels: tuple[str, ...]) -> None:
        """Make place for a set of phrases behind those that are there; once for each key."""
        self._labels.setdefault(key, labels)

    def add(self, key: Hashable, maps: Tensor, grid: Grid | None = None, top: int = 0, left: int = 0) -> None:
        """Add the maps of a set of phrases.

        Args:
            key: of the set, which is open.
            maps: [images, K, height, width].
            grid: height and width of the whole picture in tokens; None where the maps are of all of it.
            top, left: where in it their first token is.
        """
        height, width = maps.shape[2:]
        grid = grid or (height, width)
        here = (slice(top, top + height), slice(left, left + width))
        with self._lock:
            totals = self._totals.setdefault(key, {})
            if grid not in totals:
                totals[grid] = (maps.new_zeros(*maps.shape[:2], *grid), maps.new_zeros(grid))
            total, times = totals[grid]
            total[(..., *here)] += maps.to(total.device)
            times[here] += 1
            self._calls += 1

    def result(self, notes: tuple[str, ...] = ()) -> PhraseMaps | None:
        """Return the maps so far; None before anything was added. A phrase that was never read has maps of 0."""
        with self._lock:
            if not self._totals:
                return None
            finest = max(grid for totals in self._totals.values() for grid in totals)
            images = next(len(total) for totals in self._totals.values() for total, _ in totals.values())
            found = []
            for key, labels in self._labels.items():
                totals = self._totals.get(key)
                found.append(torch.zeros(images, len(labels), *finest) if totals is None else _mean(totals, finest))
            labels = tuple(label for own in self._labels.values() for label in own)
            return PhraseMaps(labels, torch.cat(found, dim=1), self._calls, notes)


def _mean(totals: dict[Grid, tuple[Tensor, Tensor]], grid: Grid) -> Tensor:
    """Return [images, K, height, width] on a grid: the mean of all that was added, 0 where nothing was."""
    total = torch.stack([resize(maps, grid) for maps, _ in totals.values()]).sum(0)
    counts = {size: resize(times[None, None], grid) for size, (_, times) in totals.items()}
    times = torch.stack(list(counts.values())).sum(0)
    is_read = counts[max(counts)] > 0  # coarser grids reach over the edge of an area
    return torch.where(is_read, total / times.clamp_min(1e-6), torch.zeros_like(total)).float().cpu()
