"""What merging really did to a model: filled in by real calls, since the sizes are known only then.

A report is written, and read by people; nothing decides by it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .config import WHOLE, Grid, SpeedConfig
from .layouts.points import Layout

_TEXT_TOKENS = 77  # of one prompt


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
        channels: of a token; 0 before the first call.
    """

    level: int
    downsample: int
    blocks: int
    chosen: bool
    kept: dict[Grid, dict[str, int]] = field(default_factory=dict)
    channels: int = 0

    def cells(self, calls: int) -> list[str]:
        """Return what a table shows for each grid, after so many calls of the model."""
        if not self.chosen:
            return ["not chosen"]
        cells = [_grid_cell(*grid, parts) for grid, parts in self.kept.items()]
        return cells or ["nothing merged" if calls else "no call yet"]

    def work_saved(self, grid: Grid) -> float:
        """Return which share of the operations of the level's blocks merging saved on a grid, by a formula.

        For N tokens of C channels and T of text: q, k, v and out of self-attention 8NC^2 and its products 4N^2C, q and
        out of cross-attention 4NC^2 and its products 4NTC, the MLP 24NC^2. What is left out is constant or small.
        """
        tokens, channels, kept = grid[0] * grid[1], max(self.channels, 1), self.kept[grid]
        whole = min(kept.get(name, tokens) for name in WHOLE)

        def work(queries: int, keys: int, cross: int, mlp: int) -> float:
            attention = 4 * channels * (queries * channels + keys * channels + queries * keys)
            return attention + 4 * cross * channels * (channels + _TEXT_TOKENS) + 24 * mlp * channels**2

        queries, cross, mlp = (min(whole, kept.get(part, tokens)) for part in ("attention", "cross_attention", "mlp"))
        merged = work(queries, min(whole, kept.get("keys", queries)), cross, mlp)
        return 1 - merged / work(tokens, tokens, tokens, tokens)

    def as_dict(self) -> dict[str, Any]:
        """Return the level as JSON-able values, with a list of its grids."""
        return {
            "level": self.level,
            "downsample": self.downsample,
            "blocks": self.blocks,
            "chosen": self.chosen,
            "grids": [self._grid_as_dict(grid) for grid in self.kept],
        }

    def _grid_as_dict(self, grid: Grid) -> dict[str, Any]:
        height, width = grid
        return {
            "height": height,
            "width": width,
            "tokens_before": height * width,
            "tokens_after": min(self.kept[grid].values()),
            "tokens_by_part": dict(self.kept[grid]),
            "work_saved": round(self.work_saved(grid), 4),
        }


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
        blind_calls: model calls in which metric estimate knew no estimate yet and saw the noisy latent.
    """

    model: str
    config: SpeedConfig
    metric: str
    levels: tuple[LevelReport, ...]
    notes: list[str] = field(default_factory=list)
    merged_calls: int = 0
    untouched_calls: int = 0
    blind_calls: int = 0

    @classmethod
    def before_calls(cls, layout: Layout, config: SpeedConfig) -> "SpeedReport":
        """Return the report of a network before its first call, with all that can be said by then."""
        rows = [
            LevelReport(x.number, x.downsample, len(layout.blocks_of(x.number)), x.number in config.levels)
            for x in layout.levels
        ]
        report = cls(layout.network, config, config.metric, tuple(rows))
        if config.is_neutral:
            report.note("ratio 0 leaves the model untouched: nothing is installed")
        if config.exceeds_max_ratio:
            report.note(cap_sentence(config))
        for sentence in idle_settings(config):
            report.note(sentence)
        present = frozenset[str]().union(*(layout.parts_of(number) for number in config.levels))
        for part in config.parts:
            if part not in present and part not in WHOLE:
                have = ", ".join(sorted(present))
                report.note(f"{part} has no effect: the blocks of the chosen levels have {have} only")
        return report

    def of_one_run(self) -> "SpeedReport":
        """Return a report of the same model and config, in which no call has been yet; the notes so far stay."""
        levels = tuple(LevelReport(x.level, x.downsample, x.blocks, x.chosen) for x in self.levels)
        return SpeedReport(self.model, self.config, self.metric, levels, list(self.notes))

    def add(self, run: "SpeedReport") -> None:
        """Add what one run did."""
        self.metric = run.metric
        self.merged_calls += run.merged_calls
        self.untouched_calls += run.untouched_calls
        self.blind_calls += run.blind_calls
        for level, newer in zip(self.levels, run.levels, strict=True):
            level.channels = newer.channels or level.channels
            for grid, kept in newer.kept.items():
                level.kept.setdefault(grid, {}).update(kept)
        for sentence in run.notes:
            self.note(sentence)

    def note(self, sentence: str) -> None:
        """Keep a sentence, unless it is there already."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def count(self, *, merged: bool) -> None:
        """Count a call that came through."""
        if merged:
            self.merged_calls += 1
        else:
            self.untouched_calls += 1

    def record(self, level: int, grid: Grid, part: str, kept: int, channels: int) -> None:
        """Keep how many tokens of a grid a part of a level runs on, and why where that is not what was asked for."""
        row = self.levels[level - 1]
        row.channels = channels
        parts = row.kept.setdefault(grid, {})
        if parts.get(part) == kept:
            return
        parts[part] = kept
        if part == "keys" and self.config.kv_downsample > 1:
            return  # they are as many as they are
        tokens = grid[0] * grid[1]
        asked = self.config.tokens_to_merge(tokens, part)
        if self.config.ratio_of(part) > 0 and (tokens - kept < asked or asked == 0):
            self.note(f"level {level}: {shortfall(self.config, grid, part, asked, tokens - kept)}")

    def note_small(self, level: int, grid: Grid) -> None:
        """Keep that a level stays untouched, because it has fewer tokens than the config asks for."""
        self.note(f"level {level}: {too_small(self.config, grid)}")

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON-able values; each level has a list of its grids with tokens before and after."""
        return {
            "model": self.model,
            "config": asdict(self.config),
            "metric": self.metric,
            "levels": [level.as_dict() for level in self.levels],
            "notes": list(self.notes),
            "merged_calls": self.merged_calls,
            "untouched_calls": self.untouched_calls,
            "blind_calls": self.blind_calls,
        }

    def expectation(self) -> str:
        """Return in a few lines what a patch will do, before its first call; where it does nothing, why."""
        config = self.config
        if config.is_neutral:
            return "Off: the model stays untouched."
        blocks = sum(level.blocks for level in self.levels)
        chosen = [level for level in self.levels if level.chosen]
        where = ", ".join(f"level {level.level} ({level.blocks} of {blocks} blocks)" for level in chosen)
        is_whole_run = (config.start_percent, config.end_percent) == (0.0, 1.0)
        when = "" if is_whole_run else f", from {config.start_percent:.0%} to {config.end_percent:.0%} of the run"
        return self._with_notes([f"Will merge {shares_of(config)} at {where}{when}."])

    def result(self) -> str:
        """Return in a few lines what merging did in the calls that the report has seen, and what it saved."""
        calls = self.merged_calls + self.untouched_calls
        if self.merged_calls == 0:
            advice = "" if self.notes else " Try a larger image, more steps or a higher ratio."
            return self._with_notes([f"Nothing merged in {calls} model calls.{advice}"])
        found = [f"Merged tokens in {self.merged_calls} of {calls} model calls."]
        found += [_level_line(level, grid) for level in self.levels for grid in level.kept]
        return self._with_notes(found)

    def __str__(self) -> str:
        config = self.config
        lines = [
            f"ToMe speed on {self.model}: {self.merged_calls} calls merged, {self.untouched_calls} untouched",
            f"merges {shares_of(config)}, {config.matching} matching by {self._metric_with_blind_calls}, "
            f"stride {config.stride[0]}x{config.stride[1]}, seed {config.seed}, "
            f"from {config.start_percent:g} to {config.end_percent:g} of the run",
            "level  downsample  blocks    grid   tokens",
        ]
        for level in self.levels:
            start = f"{level.level:5}  {level.downsample:10}  {level.blocks:6}"
            calls = self.merged_calls + self.untouched_calls
            lines += [f"{start}  {cells}" for cells in level.cells(calls)]
        for level in self.levels:
            for height, width in level.kept:
                saved = level.work_saved((height, width))
                lines.append(f"level {level.level}, {height}x{width}: {saved:.0%} of the blocks' operations saved")
        return "\n".join(lines + [f"note: {sentence}" for sentence in self.notes])

    @property
    def _metric_with_blind_calls(self) -> str:
        calls = f"{self.blind_calls} call{'' if self.blind_calls == 1 else 's'}"
        return f"{self.metric} (the noisy latent in {calls})" if self.blind_calls else self.metric

    def _with_notes(self, lines: list[str]) -> str:
        return "\n".join([*lines, *(f"Note: {note}." for note in self.notes)])


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


def _level_line(level: LevelReport, grid: Grid) -> str:
    """Return such as "Level 1 (5 blocks), 4096 tokens: attention ran on 2048. These blocks compute 30% less."."""
    tokens = grid[0] * grid[1]
    fewer = [(part, kept) for part, kept in level.kept[grid].items() if kept < tokens]
    parts = sorted(fewer, key=lambda part: -part[1])
    merged = [f"{part} {'ran ' if place == 0 else ''}on {kept}" for place, (part, kept) in enumerate(parts)]
    shown = f"{', '.join(merged)}. These blocks compute {level.work_saved(grid):.0%} less."
    if not parts:
        shown = "nothing to merge at this size. A larger image has more to merge."
    return f"Level {level.level} ({level.blocks} blocks), {tokens} tokens: {shown}"


def cap_sentence(config: SpeedConfig) -> str:
    """Return what is really merged under a ratio that the stride does not allow."""
    sy, sx = config.stride
    ratio = max(map(config.ratio_of, config.merged_parts))
    return (
        f"ratio {ratio:g} is above what stride {sy}x{sx} allows: "
        f"at most {config.max_ratio:g} of the tokens merge; a larger stride allows more"
    )


def gave_up_sentence(error: BaseException) -> str:
    """Return why merging ended in the middle of a run."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return f"merging gave up, and the rest of the run has every token, after {reason}"


def idle_settings(config: SpeedConfig) -> Iterator[str]:
    """Yield a sentence for each setting that has no effect beside the others."""
    if config.matching == "window" and config.seed is not None:
        yield "seed has no effect on window matching, which draws nothing; it has one on bipartite matching"
    for part in ("cross_attention", "mlp"):
        if getattr(config, f"{part}_ratio") is not None and part not in config.parts:
            yield f"{part}_ratio has no effect: {part} is not among the parts"
    if "attention" not in config.parts and (config.kv_ratio is not None or config.kv_downsample > 1):
        yield "kv_ratio and kv_downsample have no effect: attention is not among the parts"
    if config.refresh > 1 and config.metric == "block":
        yield "refresh has no effect on metric block: each block matches on its own input"
    if config.proportional and (not config.weighs_keys or config.kv_downsample > 1):
        yield "proportional has no effect: no keys are merged"


def idle_in_run(config: SpeedConfig, metric: str, percents: Sequence[float], *, reuses_plans: bool) -> Iterator[str]:
    """Yield a sentence for each setting that has no effect in a run.

    Args:
        config: what to merge.
        metric: where similarity is measured in the run.
        percents: where its steps are in it, from 0 to 1.
        reuses_plans: whether the plans of some step serve the next one.
    """
    steps = sorted(set(percents))
    if metric == "estimate" and len(steps) < 3:
        yield "metric estimate sees the noisy latent alone in runs of fewer than three steps"
    if config.refresh > 1 and config.metric != "block" and not reuses_plans:
        yield f"refresh has no effect in a run of {len(steps)} steps: each changes the picture too much"
    if steps and not any(config.start_percent <= percent <= config.end_percent for percent in steps):
        yield (
            f"no step of a run of {len(steps)} is between start_percent {config.start_percent:g} and end_percent "
            f"{config.end_percent:g}: nothing merges in it; more steps or an earlier start have an effect"
        )


def shares_of(config: SpeedConfig) -> str:
    """Return such as "50% of the tokens in attention, 25% in mlp"."""
    first, *others = config.parts
    shares = [f"{100 * config.ratio_of(first):g}% of the tokens in {first}"]
    shares += [f"{100 * config.ratio_of(part):g}% in {part}" for part in others]
    if config.kv_downsample > 1:
        shares.append(f"all keys but one of each {config.kv_downsample} x {config.kv_downsample}")
    elif config.has_own_keys:
        shares.append(f"{100 * config.ratio_of('keys'):g}% in keys")
    return ", ".join(shares)


def shortfall(config: SpeedConfig, grid: tuple[int, int], part: str, asked: int, merged: int) -> str:
    """Return why `merged` tokens of a grid merge in a part where `asked` were asked for."""
    height, width = grid
    sy, sx = config.stride
    ratio = f"ratio {config.ratio_of(part):g} of {height}x{width} tokens"
    if asked == 0:
        return f"{ratio} is less than one token, nothing merges; a larger ratio or image has an effect"
    if merged == 0:
        return f"{height}x{width} tokens hold no {sy}x{sx} cell, nothing merges; a smaller stride has an effect"
    return f"{ratio} asks for {asked} to merge, and stride {sy}x{sx} allows {merged}"


def too_small(config: SpeedConfig, grid: tuple[int, int]) -> str:
    """Return why nothing merges on a grid that has fewer tokens than the config asks for."""
    height, width = grid
    return (
        f"{height}x{width} tokens are fewer than min_tokens {config.min_tokens}, nothing merges; "
        "a larger image or a smaller min_tokens has an effect"
    )
