"""What merging really did to a model: filled in by real calls, since the sizes are known only then."""

from dataclasses import asdict, dataclass, field
from typing import Any

from .config import SpeedConfig

Grid = tuple[int, int]  # height and width in tokens


@dataclass
class LevelReport:
    """One level of the model, chosen or not.

    Attributes:
        level: 1 is the finest level with transformer blocks.
        downsample: latent pixels per token and side.
        blocks: transformer blocks at this level.
        chosen: whether the config merges here.
        kept: for every grid (height, width) that a call had here, the tokens that were left of height * width.
    """

    level: int
    downsample: int
    blocks: int
    chosen: bool
    kept: dict[Grid, int] = field(default_factory=dict)


@dataclass
class SpeedReport:
    """What a `SpeedConfig` does on one model. `print(report)` is meant to be read, `as_dict()` to be stored.

    Attributes:
        model: class of the patched model.
        config: what was asked for.
        metric: where similarity is really measured; other than `config.metric` where the model forbids that.
        levels: every level of the model that has transformer blocks, finest first: level 1, 2, 3, ...
        notes: what has no effect or less than was asked for, and why; each sentence once.
        merged_calls: model calls in which some part ran on fewer tokens. Calls that raised are counted nowhere.
        untouched_calls: model calls in which no part did: outside the chosen part of the run, or for what `notes` say.
    """

    model: str
    config: SpeedConfig
    metric: str
    levels: tuple[LevelReport, ...]
    notes: list[str] = field(default_factory=list)
    merged_calls: int = 0
    untouched_calls: int = 0

    def __post_init__(self) -> None:
        config = self.config
        if config.is_neutral:
            self.note("ratio 0 leaves the model untouched: nothing is installed")
        if config.exceeds_max_ratio:
            self.note(cap_sentence(config))
        if config.matching == "window" and config.seed is not None:
            self.note("seed has no effect on window matching, which draws nothing; it has one on bipartite matching")

    def note(self, sentence: str) -> None:
        """Keep a sentence, unless it is there already."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def record(self, level: int, grid: Grid, kept: int) -> None:
        """Keep how many tokens a level's plan leaves on a grid, and say why when that is not what was asked for."""
        self.levels[level - 1].kept[grid] = kept
        height, width = grid
        tokens = height * width
        asked = self.config.tokens_to_merge(tokens)
        if tokens - kept < asked or asked == 0:
            self.note(f"level {level}: {self._shortfall(grid, asked, tokens - kept)}")

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON-able values; each level has a list of its grids with tokens before and after."""
        return {
            "model": self.model,
            "config": asdict(self.config),
            "metric": self.metric,
            "levels": [_level_as_dict(level) for level in self.levels],
            "notes": list(self.notes),
            "merged_calls": self.merged_calls,
            "untouched_calls": self.untouched_calls,
        }

    def __str__(self) -> str:
        config = self.config
        lines = [
            f"ToMe speed on {self.model}: {self.merged_calls} calls merged, {self.untouched_calls} untouched",
            f"ratio {config.ratio:g} of {', '.join(config.parts)}, {config.matching} matching by {self.metric}, "
            f"stride {config.stride[0]}x{config.stride[1]}, seed {config.seed}, "
            f"from {config.start_percent:g} to {config.end_percent:g} of the run",
            "level  downsample  blocks    grid   tokens",
        ]
        for level in self.levels:
            start = f"{level.level:5}  {level.downsample:10}  {level.blocks:6}"
            lines += [f"{start}  {cells}" for cells in _grid_cells(level)]
        return "\n".join(lines + [f"note: {sentence}" for sentence in self.notes])

    def _shortfall(self, grid: Grid, asked: int, merged: int) -> str:
        height, width = grid
        sy, sx = self.config.stride
        ratio = f"ratio {self.config.ratio:g} of {height}x{width} tokens"
        if asked == 0:
            return f"{ratio} is less than one token, nothing merges; a larger ratio or image has an effect"
        if merged == 0:
            return f"{height}x{width} tokens hold no {sy}x{sx} cell, nothing merges; a smaller stride has an effect"
        return f"{ratio} asks for {asked} to merge, and stride {sy}x{sx} lets {merged} merge"


def cap_sentence(config: SpeedConfig) -> str:
    """Return what is really merged under a ratio that the stride does not allow."""
    sy, sx = config.stride
    return (
        f"ratio {config.ratio:g} is above what stride {sy}x{sx} allows: "
        f"at most {config.max_ratio:g} of the tokens merge; a larger stride allows more"
    )


def _grid_cells(level: LevelReport) -> list[str]:
    if not level.chosen:
        return ["not chosen"]
    if not level.kept:
        return ["no call yet"]
    return [
        f"{height:3}x{width:<3}  {height * width:6} -> {kept} ({kept / (height * width):.0%})"
        for (height, width), kept in level.kept.items()
    ]


def _level_as_dict(level: LevelReport) -> dict[str, Any]:
    grids = [
        {"height": height, "width": width, "tokens_before": height * width, "tokens_after": kept}
        for (height, width), kept in level.kept.items()
    ]
    return {
        "level": level.level,
        "downsample": level.downsample,
        "blocks": level.blocks,
        "chosen": level.chosen,
        "grids": grids,
    }
