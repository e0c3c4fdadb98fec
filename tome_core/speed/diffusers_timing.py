"""How long a level of a diffusers UNet takes on every token and on merged ones, by running one of its transformers."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .diffusers_layout import Level, transformer_blocks
from .guard import LevelTimes
from .report import Grid
from .state import SpeedState

_REPEATS = 3  # the fastest counts: what slows a run down is not the model's


@torch.no_grad()
def time_level(level: Level, state: SpeedState, grid: Grid, text: Tensor) -> LevelTimes:
    """Return the times of a level whose hooks are installed, on random tokens.

    One transformer stands for all: a level's blocks are alike, and what differs with merging is in them.

    Args:
        level: the level.
        state: the one that the hooks ask; it is reset at the end.
        grid: height and width of the level in tokens.
        text: [B, L, D], the text rows of the call, in its type and on its device.
    """
    transformer = level.transformers[0]
    share = len(level.blocks) / len(transformer_blocks(transformer))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(text.shape[0], _channels(transformer), *grid, generator=generator).to(text)

    def run() -> None:
        transformer(x, encoder_hidden_states=text, return_dict=False)

    def match() -> None:
        for part in parts:
            state.plan(level.number, grid, part)

    parts = [] if state.config.metric == "block" else ["keys"] * state.config.has_own_keys + [*state.config.parts]
    untouched, merged, matching = [], [], []
    for _ in range(1 + _REPEATS):  # in turn, so that a disturbance hits all of them
        state.reset()
        untouched.append(_seconds(run, x.device))
        for what, times in ((run, merged), (match, matching)):
            state.begin(None)
            state.observe(x)
            times.append(_seconds(what, x.device))
    state.reset()
    once = min(matching[1:])  # of all transformers only the first waits for it
    return LevelTimes(share * min(untouched[1:]), share * max(0.0, min(merged[1:]) - once), once)


def _channels(transformer: nn.Module) -> int:
    return transformer.get_submodule("norm").num_channels  # type: ignore[return-value]


def _seconds(run: Callable[[], None], device: torch.device) -> float:
    """Return the time of a run: of the processor where that does the work, since other programs disturb it less."""
    if device.type == "cpu":
        start = time.process_time()
        run()
        return time.process_time() - start
    synchronise = torch.cuda.synchronize if device.type == "cuda" else torch.mps.synchronize
    synchronise()
    start = time.perf_counter()
    run()
    synchronise()
    return time.perf_counter() - start
