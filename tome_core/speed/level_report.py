"""What merging does at one level of a model: filled in by real calls, since the sizes are known only then."""

from dataclasses import dataclass, field
from typing import Any

from .guard import Verdict

Grid = tuple[int, int]  # height and width in tokens


@dataclass
class LevelReport:
    """One level of the model, chosen or not.

    Attributes:
        level: 1 is the finest level with transformer blocks.
        downsample: latent pixels per token and side.
        blocks: transformer blocks at this level.
        chosen: whether the config merges here.
        kept: for every grid (height, width) that a call had here, how many of its height * width tokens each part ran
            on; "keys" are those of self-attention where they are merged by a ratio of their own.
        verdicts: for every grid that was timed, what the guard expects of merging and leaves out.
    """

    level: int
    downsample: int
    blocks: int
    chosen: bool
    kept: dict[Grid, dict[str, int]] = field(default_factory=dict)
    verdicts: dict[Grid, Verdict] = field(default_factory=dict)

    @property
    def cells(self) -> list[str]:
        """What a table says of each grid."""
        if not self.chosen:
            return ["not chosen"]
        left_out = [grid for grid in self.verdicts if grid not in self.kept]
        if not self.kept and not left_out:
            return ["no call yet"]
        rows = [_grid_cell(*grid, parts) for grid, parts in self.kept.items()]
        return rows + [f"{height:3}x{width:<3}  {height * width:6}, left out" for height, width in left_out]

    def as_dict(self) -> dict[str, Any]:
        """Return the level as JSON-able values, with a list of its grids."""
        return {
            "level": self.level,
            "downsample": self.downsample,
            "blocks": self.blocks,
            "chosen": self.chosen,
            "grids": [_grid_as_dict(grid, parts) for grid, parts in self.kept.items()],
            "verdicts": [
                {"height": grid[0], "width": grid[1], **verdict.as_dict()} for grid, verdict in self.verdicts.items()
            ],
        }


def _grid_cell(height: int, width: int, parts: dict[str, int]) -> str:
    """Return such as "16x16  256 -> 128 (50%) in attention, 192 (75%) in mlp"; parts are named where they differ."""
    tokens = height * width
    names: dict[int, list[str]] = {}
    for part, kept in parts.items():
        names.setdefault(kept, []).append(part)
    cells = [f"{kept} ({kept / tokens:.0%})" for kept in names]
    if len(names) > 1:
        cells = [f"{cell} in {', '.join(found)}" for cell, found in zip(cells, names.values(), strict=True)]
    return f"{height:3}x{width:<3}  {tokens:6} -> {', '.join(cells)}"


def _grid_as_dict(grid: Grid, parts: dict[str, int]) -> dict[str, Any]:
    height, width = grid
    return {
        "height": height,
        "width": width,
        "tokens_before": height * width,
        "tokens_after": min(parts.values()),
        "tokens_by_part": dict(parts),
    }
