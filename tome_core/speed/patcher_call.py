"""One model call of a patcher: the state that its patches share, which travels in the call's own options."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .config import SpeedConfig
from .level_guard import LevelGuard
from .level_report import Grid
from .patcher_layout import Layout, Place
from .patcher_others import OtherPatches
from .report import SpeedReport
from .site import Observation, Site
from .state import SpeedState

CALL = "tome_speed_call"  # where the call is in the options that the host hands to every patch


@dataclass
class SpeedCall:
    """What is known while the network runs once, in one thread.

    Attributes:
        config: that of the patched model.
        report: that of the sampling run.
        layout: where the network has its transformers.
        state: makes the plans.
        others: the patches of other packs.
        metric: where similarity is measured in this call; a compiled network hides what others let us see.
        guard: decides what is left out; None where everything merges.
        other_attention: what another pack has in the host's slot for that; None where it is empty.
        text: [B, L, D], which the call draws from; None where it has none.
        observation: what plans are made from, as it is met.
        key_weights: [B, 1, M], what the attention that comes next is to add to its logits.
        has_run: whether the network was reached: a cache of another pack may answer in its place.
        thread: the one that it runs in.
    """

    config: SpeedConfig
    report: SpeedReport
    layout: Layout
    state: SpeedState
    others: OtherPatches
    metric: str
    guard: LevelGuard | None = None
    other_attention: Callable[..., Tensor] | None = None
    text: Tensor | None = None
    observation: Observation = field(default_factory=Observation)
    key_weights: Tensor | None = None
    has_run: bool = False
    thread: int = field(default_factory=threading.get_ident)
    _sites: dict[tuple[int, Grid], Site] = field(default_factory=dict)

    def place(self, block: object) -> Place | None:
        """Return where the host's block is, if it is one of a level that merges."""
        return next((x for x in self.layout.places if x.block == block and x.level in self.config.levels), None)

    def site(self, level: int, grid: Grid, x: Tensor) -> Site | None:
        """Return a level on a grid of tokens x [B, N, C]; None where the call merges nothing."""
        if not self.state.is_active:
            return None
        site = self._sites.get((level, grid))
        if site is None:
            site = Site(level, self.state, self.report, grid=grid, observation=self.observation)
            if self.guard is not None:
                like = x.new_empty(1).expand(1, x.shape[2], *grid)
                features = self.observation.shape if self.metric != "block" else None
                site.left_out = self.guard.left_out(level, like, self.text, features, metric=self.metric)
                self.guard.tell(level, grid, self.report)
            self._sites[level, grid] = site
        return site

    def site_in(self, options: Mapping[str, Any], x: Tensor) -> tuple[Place, Site] | None:
        """Return where a patch is called, by the options that it is given and the tokens [B, N, C] of its block."""
        place = self.place(options.get("block"))
        if place is None:
            return None
        site = self.site(place.level, self._grid(options, place), x)
        return None if site is None else (place, site)

    def _grid(self, options: Mapping[str, Any], place: Place) -> Grid:
        """Return height and width in tokens as the host tells them; Forge tells those of the latent alone."""
        shape = options.get("activations_shape")
        if shape is not None:
            return int(shape[2]), int(shape[3])
        height, width = options["original_shape"][2:]
        return self.layout.levels[place.level - 1].grid(height, width)


def call_in(options: Mapping[str, Any]) -> SpeedCall | None:
    """Return the call that a patch is in; None where the host came to the network by another way."""
    return options.get(CALL)
