"""What a report says in words of a config: what is capped, what falls short, what has no effect, and why."""

from collections.abc import Iterator, Sequence

from .call_times import CallTimes, Size
from .config import SpeedConfig
from .guard import LevelTimes, Verdict
from .refresh import is_kept

PIXELS = 8  # of the picture per latent pixel and side, in every Stable Diffusion


def cap_sentence(config: SpeedConfig) -> str:
    """Return what is really merged under a ratio that the stride does not allow."""
    sy, sx = config.stride
    ratio = max(map(config.ratio_of, config.merged_parts))
    return (
        f"ratio {ratio:g} is above what stride {sy}x{sx} allows: "
        f"at most {config.max_ratio:g} of the tokens merge; a larger stride allows more"
    )


def left_out_sentence(times: LevelTimes, verdict: Verdict, grid: tuple[int, int], downsample: int) -> str:
    """Return what is left out on a grid of a level and why, for somebody who makes pictures."""
    height, width = (tokens * downsample * PIXELS for tokens in grid)
    if verdict.saved_seconds > 0:
        return f"{', '.join(sorted(verdict.left_out))} left out at {width}x{height} px, it takes longer merged"
    pixels = downsample * PIXELS
    side = times.least_side(grid[0] * grid[1], pixels)
    largest = times.largest_side(pixels)
    searched = f"up to {largest} px" if largest > max(width, height) else "at this size"
    until = searched if side is None else f"below {side} px"
    told = f"take {-verdict.gain:.0%} longer" if verdict.gain < 0 else f"save only {verdict.gain:.1%}"
    return f"no gain {until} on this model; left out at {width}x{height} px, where merging would {told}"


def times_sentence(size: Size, times: CallTimes) -> Iterator[str]:
    """Yield what is known of the time of calls of a size: expected by the cost model, and measured."""
    rows, height, width = size
    known = {"expected": times.expected_ratio, "measured": times.measured_ratio}
    told = [f"{name} x {ratio:.2f}" for name, ratio in known.items() if ratio is not None]
    if told:
        yield f"time of a call of {rows} rows at {width * PIXELS}x{height * PIXELS} px: {', '.join(told)}"


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
        yield "refresh has no effect on metric block, whose every block looks at its own input"
    if config.proportional and (not config.weighs_keys or config.kv_downsample > 1):
        yield "proportional has no effect: no keys are merged"


def idle_in_run(config: SpeedConfig, percents: Sequence[float]) -> Iterator[str]:
    """Yield a sentence for each setting that has no effect in a run whose steps are at these fractions of it."""
    steps = sorted(set(percents))
    if config.metric == "estimate" and len(steps) < 3:
        yield "metric estimate sees the noisy latent alone in runs of fewer than three steps"
    pairs = zip(steps[1:], steps, strict=False)  # each step with the one before it
    if config.refresh > 1 and not any(is_kept(1, config.refresh, *pair) for pair in pairs):
        yield f"refresh has no effect in a run of {len(steps)} steps: each changes the picture too much"
    if steps and not any(config.start_percent <= percent <= config.end_percent for percent in steps):
        yield (
            f"no step of a run of {len(steps)} is between start_percent {config.start_percent:g} and end_percent "
            f"{config.end_percent:g}: nothing merges in it"
        )


def ratios_of(config: SpeedConfig) -> str:
    """Return such as "0.5 of attention, 0.25 of mlp"."""
    parts = [f"{config.ratio_of(part):g} of {part}" for part in config.parts]
    if config.kv_downsample > 1:
        parts.append(f"keys of every {config.kv_downsample} x {config.kv_downsample} tokens")
    elif config.has_own_keys:
        parts.append(f"{config.kv_ratio:g} of keys")
    return ", ".join(parts)


def shortfall(config: SpeedConfig, grid: tuple[int, int], part: str, asked: int, merged: int) -> str:
    """Return why `merged` tokens of a grid merge in a part where `asked` were asked for."""
    height, width = grid
    sy, sx = config.stride
    ratio = f"ratio {config.ratio_of(part):g} of {height}x{width} tokens"
    if asked == 0:
        return f"{ratio} is less than one token, nothing merges; a larger ratio or image has an effect"
    if merged == 0:
        return f"{height}x{width} tokens hold no {sy}x{sx} cell, nothing merges; a smaller stride has an effect"
    return f"{ratio} asks for {asked} to merge, and stride {sy}x{sx} lets {merged} merge"
