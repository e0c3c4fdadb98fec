"""How long a block of a diffusers UNet takes on every token and on merged ones: its twin is run at several sizes."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .config import WHOLE, SpeedConfig
from .diffusers_calls import Site
from .diffusers_layout import block_parts
from .diffusers_merging import install_merging
from .diffusers_twin import bare_twin
from .guard import Curve, LevelTimes
from .level_report import Grid, LevelReport
from .plan_making import Matcher
from .report import SpeedReport
from .state import SpeedState
from .timing import stopwatch

_BUDGET = 2.0  # seconds for a level; larger sizes than that allows are reckoned from the smaller ones
_ROUNDS = 5  # at most; the fastest counts, since what slows a run down is not the model's
_DEARER = 10  # how much more the next size takes than the last: four times the tokens, sixteen times the attention
_MOST_SIZES = 4  # up to the level's own
_LARGER = (2, 4)  # times its sides, to learn from where on merging pays where it does not
_TEXT_ROWS = 77  # always: a longer prompt of a neighbour must not count
_MATCHING = "matching"

Runs = dict[str, Callable[[], object]]
Points = dict[str, dict[int, float]]  # of each run: tokens to seconds


@dataclass(frozen=True)
class Place:
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


@torch.no_grad()
def time_level(
    block: nn.Module, place: Place, grid: Grid, config: SpeedConfig, matcher: Matcher | None = None
) -> LevelTimes:
    """Return the times of a level whose blocks are like `block`, on one row of random tokens.

    Untouched, merged and matching runs take turns, from small grids to the level's own, or to the largest that a
    second or two allow; where merging does not pay there, up to larger ones, to find where it would. A stack is
    timed as blocks that merge one by one, which is a little more than it takes.

    Args:
        block: one BasicTransformerBlock of the level; neither it nor anything else is changed, no hook of it is called.
        place: what the level is like.
        grid: height and width in tokens.
        config, matcher: what merges, and how, as `SpeedState` takes them.

    Raises:
        CannotTimeError: the device cannot be waited for.
        Exception: whatever the block raises on such an input.
    """
    clock, bench = stopwatch(place.device), _Bench(block, place, config, matcher)
    points: Points = {}
    began, last = time.perf_counter(), 0.0
    for size in _sizes(grid, config.stride):
        is_larger = size[0] > grid[0]
        if time.perf_counter() - began + 2 * _DEARER * last > _BUDGET:
            break
        if is_larger and _pays(_new_times(points, bench.parts, place, grid), grid):
            break
        seconds = _fastest(bench.runs(size, size[0] / grid[0]), clock, began + _BUDGET)
        last = sum(seconds.values())
        for name, value in seconds.items():
            points.setdefault(name, {})[size[0] * size[1]] = value
    return _new_times(points, bench.parts, place, grid)


def _new_times(points: Points, parts: list[str], place: Place, grid: Grid) -> LevelTimes:
    """Return the times of a level from those of one block, which are kept as they are at the level's own grid."""
    curves, tokens = {}, grid[0] * grid[1]
    for name, seconds in points.items():
        curve = Curve.through(seconds)
        curves[name] = curve * (seconds[tokens] / curve(tokens)) if tokens in seconds else curve
    return LevelTimes(
        {part: curves[part] * place.blocks for part in parts},
        {part: curves[f"merged {part}"] * place.blocks for part in parts},
        curves[_MATCHING] * place.matchings if _MATCHING in curves else Curve(),
        max(max(seconds) for seconds in points.values()),
    )


def _pays(times: LevelTimes, grid: Grid) -> bool:
    verdict = times.verdict(grid[0] * grid[1])
    return verdict is None or not verdict.left_out


class _Bench:
    """A block's twin as it is, and another one that merges."""

    def __init__(self, block: nn.Module, place: Place, config: SpeedConfig, matcher: Matcher | None) -> None:
        self._place, self._config, self._matcher = place, config, matcher
        self._state = self._new_state()
        self._site = Site(1, self._state, self._state_report)
        self._untouched, self._merging = bare_twin(block), bare_twin(block)
        install_merging([self._merging], config, self._site, [])
        found = {part for part, _ in block_parts(block)}
        self.parts = [part for part in config.parts if part in found or part in WHOLE]

    def runs(self, grid: Grid, scale: float) -> Runs:
        """Return what is to be timed on a grid that is `scale` times the level's own: it is all made ready."""
        place, generator = self._place, torch.Generator().manual_seed(0)

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(place.device, place.dtype)

        x = random(1, grid[0] * grid[1], place.channels)
        text = None if place.text_channels is None else random(1, _TEXT_ROWS, place.text_channels)
        channels, height, width = place.features
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
            runs[_MATCHING] = lambda: self._match(features, grid, asked)
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


def _sizes(grid: Grid, stride: tuple[int, int]) -> list[Grid]:
    """Return smaller grids, of half the sides each, that still hold some cells, then the grid, then larger ones."""
    sizes = [grid]
    while len(sizes) < _MOST_SIZES and all(side >= 4 * step for side, step in zip(sizes[0], stride, strict=True)):
        sizes.insert(0, (sizes[0][0] // 2, sizes[0][1] // 2))
    return sizes + [(grid[0] * factor, grid[1] * factor) for factor in _LARGER]


def _fastest(runs: Runs, clock: Callable[[], float], until: float) -> dict[str, float]:
    """Return the least seconds of each run; they take turns, so that a disturbance hits all of them."""
    for run in runs.values():
        run()  # first calls are slow
    fastest = dict.fromkeys(runs, math.inf)
    for _ in range(_ROUNDS):
        for name, run in runs.items():
            start = clock()
            run()
            fastest[name] = min(fastest[name], clock() - start)
        if time.perf_counter() + sum(fastest.values()) > until:
            break
    return fastest
