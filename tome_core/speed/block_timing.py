"""How long a block of a UNet takes on every token and on merged ones: its twin is run at several sizes."""

import math
import time
from collections.abc import Callable

import torch
from torch import nn

from .block_bench import MATCHING, Bench, Runs, Surroundings
from .config import SpeedConfig
from .guard import Curve, LevelTimes
from .level_report import Grid
from .plan_making import Matcher
from .timing import stopwatch

_BUDGET = 2.0  # seconds for a level; larger sizes than that allows are reckoned from the smaller ones
_ROUNDS = 5  # at most; the fastest counts, since what slows a run down is not the model's
_DEARER = 10  # how much more the next size takes than the last: four times the tokens, sixteen times the attention
_MOST_SIZES = 4  # up to the level's own
_LARGER = (2, 4)  # times its sides, to learn from where on merging pays where it does not

Points = dict[str, dict[int, float]]  # of each run: tokens to seconds


@torch.no_grad()
def time_level(
    block: nn.Module, surroundings: Surroundings, grid: Grid, config: SpeedConfig, matcher: Matcher | None = None
) -> LevelTimes:
    """Return the times of a level whose blocks are like `block`, on one row of random tokens.

    Untouched, merged and matching runs take turns, from small grids to the level's own, or to the largest that a
    second or two allow; where merging does not pay there, up to larger ones, to find where it would. A stack is
    timed as blocks that merge one by one, which is a little more than it takes.

    Args:
        block: one of the level, called as diffusers calls its own; neither it nor anything else is changed, no hook of
            it is called.
        surroundings: what the level is like.
        grid: height and width in tokens.
        config, matcher: what merges, and how, as `SpeedState` takes them.

    Raises:
        CannotTimeError: the device cannot be waited for.
        Exception: whatever the block raises on such an input.
    """
    clock, bench = stopwatch(surroundings.device), Bench(block, surroundings, config, matcher)
    points: Points = {}
    began, last = time.perf_counter(), 0.0
    for size in _sizes(grid, config.stride):
        is_larger = size[0] > grid[0]
        if time.perf_counter() - began + 2 * _DEARER * last > _BUDGET:
            break
        if is_larger and _pays(_new_times(points, bench.parts, surroundings, grid), grid):
            break
        seconds = _fastest(bench.runs(size, size[0] / grid[0]), clock, began + _BUDGET)
        last = sum(seconds.values())
        for name, value in seconds.items():
            points.setdefault(name, {})[size[0] * size[1]] = value
    return _new_times(points, bench.parts, surroundings, grid)


def _new_times(points: Points, parts: list[str], surroundings: Surroundings, grid: Grid) -> LevelTimes:
    """Return the times of a level from those of one block, which are kept as they are at the level's own grid."""
    curves, tokens = {}, grid[0] * grid[1]
    for name, seconds in points.items():
        curve = Curve.through(seconds)
        curves[name] = curve * (seconds[tokens] / curve(tokens)) if tokens in seconds else curve
    return LevelTimes(
        {part: curves[part] * surroundings.blocks for part in parts},
        {part: curves[f"merged {part}"] * surroundings.blocks for part in parts},
        curves[MATCHING] * surroundings.matchings if MATCHING in curves else Curve(),
        max(max(seconds) for seconds in points.values()),
    )


def _pays(times: LevelTimes, grid: Grid) -> bool:
    verdict = times.verdict(grid[0] * grid[1])
    return verdict is None or not verdict.left_out


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
