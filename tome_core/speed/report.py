"""What merging really did to a model: filled in by real calls, since the sizes are known only then."""

from collections.abc import Iterator
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
        kept: for every grid (height, width) that a call had here, how many of its height * width tokens each part ran
            on; "keys" are those of self-attention where they are merged by a ratio of their own.
    """

    level: int
    downsample: int
    blocks: int
    chosen: bool
    kept: dict[Grid, dict[str, int]] = field(default_factory=dict)


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
        for sentence in _idle_settings(config):
            self.note(sentence)

    def note(self, sentence: str) -> None:
        """Keep a sentence, unless it is there already."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def record(self, level: int, grid: Grid, part: str, kept: int) -> None:
        """Keep how many tokens of a grid a part of a level runs on, and say why when that is not what was asked for."""
        parts = self.levels[level - 1].kept.setdefault(grid, {})
        if parts.get(part) == kept:
            return
        parts[part] = kept
        if part == "keys" and self.config.kv_downsample > 1:
            return  # they are as many as they are
        tokens = grid[0] * grid[1]
        asked = self.config.tokens_to_merge(tokens, part)
        if self.config.ratio_of(part) > 0 and (tokens - kept < asked or asked == 0):
            self.note(f"level {level}: {self._shortfall(grid, part, asked, tokens - kept)}")

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
            f"ratio {_ratios(config)}, {config.matching} matching by {self.metric}, "
            f"stride {config.stride[0]}x{config.stride[1]}, seed {config.seed}, "
            f"from {config.start_percent:g} to {config.end_percent:g} of the run",
            "level  downsample  blocks    grid   tokens",
        ]
        for level in self.levels:
            start = f"{level.level:5}  {level.downsample:10}  {level.blocks:6}"
            lines += [f"{start}  {cells}" for cells in _grid_cells(level)]
        return "\n".join(lines + [f"note: {sentence}" for sentence in self.notes])

    def _shortfall(self, grid: Grid, part: str, asked: int, merged: int) -> str:
        height, width = grid
        sy, sx = self.config.stride
        ratio = f"ratio {self.config.ratio_of(part):g} of {height}x{width} tokens"
        if asked == 0:
            return f"{ratio} is less than one token, nothing merges; a larger ratio or image has an effect"
        if merged == 0:
            return f"{height}x{width} tokens hold no {sy}x{sx} cell, nothing merges; a smaller stride has an effect"
        return f"{ratio} asks for {asked} to merge, and stride {sy}x{sx} lets {merged} merge"


def cap_sentence(config: SpeedConfig) -> str:
    """Return what is really merged under a ratio that the stride does not allow."""
    sy, sx = config.stride
    ratio = max(map(config.ratio_of, config.merged_parts))
    return (
        f"ratio {ratio:g} is above what stride {sy}x{sx} allows: "
        f"at most {config.max_ratio:g} of the tokens merge; a larger stride allows more"
    )


def _idle_settings(config: SpeedConfig) -> Iterator[str]:
    """Yield a sentence for each setting that has no effect beside the others."""
    if config.matching == "window" and config.seed is not None:
        yield "seed has no effect on window matching, which draws nothing; it has one on bipartite matching"
    for part in ("cross_attention", "mlp"):
        if getattr(config, f"{part}_ratio") is not None and part not in config.parts:
            yield f"{part}_ratio has no effect: {part} is not among the parts"
    if "attention" not in config.parts and (config.kv_ratio is not None or config.kv_downsample > 1):
        yield "kv_ratio and kv_downsample have no effect: attention is not among the parts"
    if config.refresh > 1 and config.metric == "block":
        yield "refresh has no effect on metric block, whose every block looks at its own input"
    if config.proportional and (not config.weighs_keys or config.kv_downsample > 1):
        yield "proportional has no effect: no keys are merged"


def _ratios(config: SpeedConfig) -> str:
    """Return such as "0.5 of attention, 0.25 of mlp"."""
    parts = [f"{config.ratio_of(part):g} of {part}" for part in config.parts]
    if config.kv_downsample > 1:
        parts.append(f"keys of every {config.kv_downsample} x {config.kv_downsample} tokens")
    elif config.has_own_keys:
        parts.append(f"{config.kv_ratio:g} of keys")
    return ", ".join(parts)


def _grid_cells(level: LevelReport) -> list[str]:
    if not level.chosen:
        return ["not chosen"]
    if not level.kept:
        return ["no call yet"]
    return [_grid_cell(*grid, parts) for grid, parts in level.kept.items()]


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


def _level_as_dict(level: LevelReport) -> dict[str, Any]:
    grids = [
        {
            "height": height,
            "width": width,
            "tokens_before": height * width,
            "tokens_after": min(parts.values()),
            "tokens_by_part": dict(parts),
        }
        for (height, width), parts in level.kept.items()
    ]
    return {
        "level": level.level,
        "downsample": level.downsample,
        "blocks": level.blocks,
        "chosen": level.chosen,
        "grids": grids,
    }
