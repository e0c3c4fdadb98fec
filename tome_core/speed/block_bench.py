"""A block of a UNet made ready to be timed: its twin as it is, and another one that merges."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .block_merging import install_merging
from .block_twin import bare_twin
from .config import WHOLE, SpeedConfig
from .level_report import Grid, LevelReport
from .levels import block_parts
from .plan_making import Matcher
from .report import SpeedReport
from .site import Site
from .state import SpeedState

MATCHING = "matching"
_TEXT_ROWS = 77  # always: a longer prompt of a neighbour must not count

Runs = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Surroundings:
    """Where blocks are timed.

    Attributes:
        blocks: how many of them the level has.
        matchings: how often a call matches for each part; more than once where each block matches on its own input.
        channels: of a token, at the block's input.
        text_channels: of a row of text; None where no text comes in.
        features: channels, height and width of what plans are made from.
        device, dtype: of the tokens.
    """

    blocks: int
    matchings: int
    channels: int
    text_channels: int | None
    features: tuple[int, int, int]
    device: torch.device
    dtype: torch.dtype


class Bench:
    """A block's twin as it is, and another one that merges."""

    def __init__(
        self, block: nn.Module, surroundings: Surroundings, config: SpeedConfig, matcher: Matcher | None
    ) -> None:
        self._surroundings, self._config, self._matcher = surroundings, config, matcher
        self._state = self._new_state()
        self._site = Site(1, self._state, self._state_report)
        self._untouched, self._merging = bare_twin(block), bare_twin(block)
        install_merging([self._merging], config, self._site, [])
        found = {part for part, _ in block_parts(block)}
        self.parts = [part for part in config.parts if part in found or part in WHOLE]

    def runs(self, grid: Grid, scale: float) -> Runs:
        """Return what is to be timed on a grid that is `scale` times the level's own: it is all made ready."""
        surroundings, generator = self._surroundings, torch.Generator().manual_seed(0)

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(surroundings.device, surroundings.dtype)

        x = random(1, grid[0] * grid[1], surroundings.channels)
        text = None if surroundings.text_channels is None else random(1, _TEXT_ROWS, surroundings.text_channels)
        channels, height, width = surroundings.features
        features = random(1, channels, math.ceil(height * scale), math.ceil(width * scale))
        self._site.grid = grid
        self._state.begin(None)
        self._state.observe(features)
        asked = [*self.parts, *(["keys"] if "keys" in self._config.merged_parts else [])]
        for part in asked:
            self._state.plan(1, grid, part)
        runs: Runs = {}
        for part in self.parts:
            runs[part] = _Run(self._untouched, part, x, text)
            runs[f"merged {part}"] = _Run(self._merging, part, x, text)
        if any(self._config.ratio_of(part) > 0 for part in asked):
            runs[MATCHING] = lambda: self._match(features, grid, asked)
        return runs

    def _match(self, features: Tensor, grid: Grid, parts: list[str]) -> None:
        state = self._new_state()  # which knows no plan yet
        state.begin(None)
        state.observe(features)
        for part in parts:
            if self._config.ratio_of(part) > 0:
                state.plan(1, grid, part)

    def _new_state(self) -> SpeedState:
        rows = (LevelReport(1, 1, 1, chosen=True),)
        self._state_report = SpeedReport("", self._config, self._config.metric, rows)
        return SpeedState(self._config, self._state_report, matcher=self._matcher)


@dataclass(frozen=True)
class _Run:
    """One run of a part of a block, or of the whole of it."""

    block: nn.Module
    part: str
    x: Tensor
    text: Tensor | None

    def __call__(self) -> None:
        if self.part in WHOLE:
            self.block(self.x, encoder_hidden_states=self.text)
            return
        for part, module in block_parts(self.block):
            if part == self.part:
                module(self.x, **({"encoder_hidden_states": self.text} if part == "cross_attention" else {}))
