"""The costs of a UNet's levels, counted on twins of their blocks that have shapes and no values."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..merging import MergePlan
from .block_merging import install_merging
from .block_twin import bare_twin
from .config import WHOLE, SpeedConfig
from .costs import Cost, Saving
from .flops import flop_counter
from .level_report import Grid, LevelReport
from .levels import Level, block_parts
from .report import SpeedReport
from .site import Site
from .state import SpeedState

_TEXT_ROWS = 77
_PARTS = frozenset(("attention", "cross_attention", "mlp", "keys", *WHOLE))


class BlockCosts:
    """Counts when it is asked, and once for each level, grid and number of tokens; nothing is computed.

    Args:
        config: what merges.
        levels: those of the model, of which nothing is kept but the shapes of one block each. One whose weights have
            none, as packed ones (GGUF, NF4), is not counted.
    """

    def __init__(self, config: SpeedConfig, levels: tuple[Level, ...]) -> None:
        self._config = config
        shapes = ((x, _shapes_alone(x.blocks[0])) for x in levels)
        self._blocks = {x.number: (block, len(x.blocks)) for x, block in shapes if block is not None}
        self._savings: dict[Any, Saving | None] = {}

    def saving(self, level: int, grid: Grid, kept: dict[str, int]) -> Saving | None:
        """Return what a level saves on a grid whose parts kept so many tokens; None if that cannot be counted."""
        key = (level, grid, tuple(sorted(kept.items())))
        if key not in self._savings:
            try:
                costs = self._count(level, grid, {}), self._count(level, grid, kept)
                self._savings[key] = Saving(*costs)
            except Exception:  # a block of another make, or a layer without shapes alone: a report must not fail by it
                self._savings[key] = None
        return self._savings[key]

    @torch.no_grad()
    def _count(self, level: int, grid: Grid, kept: dict[str, int]) -> Cost:
        original, blocks = self._blocks[level]
        block, tokens = bare_twin(original, "meta"), grid[0] * grid[1]
        attentions = {part: module for part, module in block_parts(block) if part != "mlp"}
        weight = next(iter(attentions.values())).get_submodule("to_q").get_parameter("weight")
        text = attentions["cross_attention"].get_submodule("to_k") if "cross_attention" in attentions else None
        site = self._new_site(grid, kept)
        install_merging([block], self._config, site, [])
        written = _Written(block)
        empty = partial(torch.empty, device="meta", dtype=weight.dtype)
        rows = None if text is None else empty(1, _TEXT_ROWS, text.get_parameter("weight").shape[1])
        with flop_counter() as flops:
            block(empty(1, tokens, weight.shape[1]), encoder_hidden_states=rows)
        scores = self._scores(attentions, tokens, kept) * weight.dtype.itemsize
        return Cost(flops.get_total_flops() * blocks, written.bytes * blocks, scores)

    def _new_site(self, grid: Grid, kept: dict[str, int]) -> Site:
        """Return a site whose parts merge to so many tokens, whatever else the config asks for."""
        config, tokens = self._config, grid[0] * grid[1]
        by_asked = {config.tokens_to_merge(tokens, part): count for part, count in kept.items()}

        def match(metric: Tensor, height: int, width: int, r: int) -> MergePlan:
            representatives = torch.zeros(1, height * width, dtype=torch.int64, device="meta")
            return MergePlan.from_representatives(representatives, by_asked[r])

        report = SpeedReport("", config, config.metric, (LevelReport(1, 1, 1, chosen=True),))
        state = SpeedState(config, report, matcher=match)
        state.begin(None)
        state.observe(torch.empty(1, 1, *grid, device="meta"))
        return Site(1, state, report, grid=grid, left_out=_PARTS - kept.keys())

    def _scores(self, attentions: dict[str, nn.Module], tokens: int, kept: dict[str, int]) -> int:
        """Return heads * queries * keys of one self-attention; 0 where the block has none."""
        if "attention" not in attentions:
            return 0
        merged = [kept[part] for part in (*WHOLE, "attention") if part in kept]
        queries = merged[0] if merged else tokens
        keys = kept.get("keys", tokens if self._config.has_own_keys else queries)
        return int(attentions["attention"].heads) * queries * keys  # type: ignore[arg-type]


def _shapes_alone(block: nn.Module) -> nn.Module | None:
    """Return a twin of a block without values; None where its weights refuse that: no picture must fail by it."""
    try:
        return bare_twin(block, "meta")
    except Exception:  # whatever a class of weights raises
        return None


class _Written:
    """Adds up the bytes that the innermost layers of a module put out; one that hands on its input adds none."""

    def __init__(self, module: nn.Module) -> None:
        self.bytes = 0
        for layer in module.modules():
            if not any(True for _ in layer.children()):
                layer.register_forward_hook(self._add)

    def _add(self, layer: nn.Module, args: tuple[Any, ...], output: object) -> None:
        if isinstance(output, Tensor) and not any(output is argument for argument in args):
            self.bytes += output.numel() * output.dtype.itemsize
