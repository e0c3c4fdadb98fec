"""What merging really did to a model: filled in by real calls, since the sizes are known only then."""

from dataclasses import asdict, dataclass, field
from typing import Any

from .call_times import CallTimes, Size
from .config import SpeedConfig
from .costs import Costs, Saving
from .level_report import Grid, LevelReport
from .sentences import cap_sentence, idle_settings, ratios_of, shortfall, times_sentence


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
        call_times: with the guard on, for each size (rows, latent height and width) that came twice, the time of a
            call and what the cost model expects of merging.
        costs: counts what merging saves beside time; None where nothing does.
    """

    model: str
    config: SpeedConfig
    metric: str
    levels: tuple[LevelReport, ...]
    notes: list[str] = field(default_factory=list)
    merged_calls: int = 0
    untouched_calls: int = 0
    blind_calls: int = 0
    call_times: dict[Size, CallTimes] = field(default_factory=dict)
    costs: Costs | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        config = self.config
        if config.is_neutral:
            self.note("ratio 0 leaves the model untouched: nothing is installed")
        if config.exceeds_max_ratio:
            self.note(cap_sentence(config))
        for sentence in idle_settings(config):
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
            self.note(f"level {level}: {shortfall(self.config, grid, part, asked, tokens - kept)}")

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON-able values; each level has a list of its grids with tokens before and after."""
        return {
            "model": self.model,
            "config": asdict(self.config),
            "metric": self.metric,
            "levels": [level.as_dict() | {"savings": self._savings_as_dicts(level)} for level in self.levels],
            "notes": list(self.notes),
            "merged_calls": self.merged_calls,
            "untouched_calls": self.untouched_calls,
            "blind_calls": self.blind_calls,
            "call_times": [
                {"rows": rows, "latent_height": height, "latent_width": width, **times.as_dict()}
                for (rows, height, width), times in self.call_times.items()
            ],
        }

    def savings(self, level: int) -> dict[Grid, Saving]:
        """Return what each grid of a level saves beside time, where that can be counted."""
        if self.costs is None:
            return {}
        kept = self.levels[level - 1].kept
        found = {grid: self.costs.saving(level, grid, parts) for grid, parts in kept.items()}
        return {grid: saving for grid, saving in found.items() if saving is not None}

    def __str__(self) -> str:
        config = self.config
        lines = [
            f"ToMe speed on {self.model}: {self.merged_calls} calls merged, {self.untouched_calls} untouched",
            f"ratio {ratios_of(config)}, {config.matching} matching by {self._metric_told}, "
            f"stride {config.stride[0]}x{config.stride[1]}, seed {config.seed}, "
            f"from {config.start_percent:g} to {config.end_percent:g} of the run",
            "level  downsample  blocks    grid   tokens",
        ]
        for level in self.levels:
            start = f"{level.level:5}  {level.downsample:10}  {level.blocks:6}"
            lines += [f"{start}  {cells}" for cells in level.cells]
        for level in self.levels:
            for (height, width), saving in self.savings(level.level).items():
                lines.append(f"level {level.level}, {height}x{width}: {saving}")
        lines += [sentence for size, times in self.call_times.items() for sentence in times_sentence(size, times)]
        return "\n".join(lines + [f"note: {sentence}" for sentence in self.notes])

    @property
    def _metric_told(self) -> str:
        calls = f"{self.blind_calls} call{'' if self.blind_calls == 1 else 's'}"
        return f"{self.metric} (the noisy latent in {calls})" if self.blind_calls else self.metric

    def _savings_as_dicts(self, level: LevelReport) -> list[dict[str, Any]]:
        savings = self.savings(level.level).items()
        return [{"height": height, "width": width, **saving.as_dict()} for (height, width), saving in savings]
