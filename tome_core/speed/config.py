"""What a user chooses about token merging for speed: names, bounds, units and help sentences live here once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any

WHOLE = ("block", "stack")  # merged around once, and so chosen alone
PARTS = ("attention", "cross_attention", "mlp", *WHOLE)
MATCHINGS = ("bipartite", "window")
METRICS = ("first_block", "stem", "latent", "block", "estimate")
MAX_LEVEL = 8
MAX_STRIDE = 8
MAX_REFRESH = 50
MAX_SEED = 2**63 - 1


def _setting(default: Any, help: str, **metadata: Any) -> Any:
    """Return a dataclass field that carries what a user interface needs to draw it."""
    return field(default=default, metadata={"help": help, **metadata})


def _share(help: str) -> Any:
    """Return the field of a ratio that need not be given."""
    return _setting(None, help, min=0.0, max=1.0, step=0.05, unit="fraction of tokens")


@dataclass(frozen=True)
class SpeedConfig:
    """Token merging for fast Stable Diffusion (Bolya & Hoffman 2023). Neutral at `ratio` 0.

    `dataclasses.fields` gives each field's bounds, step, unit, choices and help as `metadata`. A list, or a single
    level or part, is stored as a tuple. Departures from the paper, all of them settings: levels are counted from the
    finest one that has transformer blocks (the paper's code counts from the latent, where SDXL has none); one plan
    serves a whole level and does not see the text unless `metric` is "block"; the kept tokens are not drawn at random
    unless `seed` is given.

    Raises:
        ValueError: a field breaks its rule, as "<name> must be <rule>, got <value>".
    """

    ratio: float = _setting(
        0.5,
        "How much of the image to merge away before attention. 0 is the untouched model.",
        min=0.0,
        max=1.0,
        step=0.05,
        unit="fraction of tokens",
    )
    levels: tuple[int, ...] = _setting(
        (1,),
        "Where to merge: 1 is the finest level of the model that has attention, 2 the next coarser one.",
        min=1,
        max=MAX_LEVEL,
        step=1,
        unit="level",
    )
    parts: tuple[str, ...] = _setting(
        ("attention",),
        "What runs on merged tokens. Cross-attention and MLP save more and cost more quality. block: all three, merged "
        "once; stack: all blocks in a row, merged once (SDXL has ten in a row). These two stand alone.",
        choices=PARTS,
    )
    stride: tuple[int, int] = _setting(
        (2, 2),
        "Height and width of the cell in which one token is always kept. Caps the ratio at 1 - 1 / (height * width).",
        min=1,
        max=MAX_STRIDE,
        step=1,
        unit="tokens",
    )
    matching: str = _setting(
        "bipartite",
        "bipartite: a token merges with the most similar kept one anywhere in the image. window: only inside its cell.",
        choices=MATCHINGS,
    )
    metric: str = _setting(
        "first_block",
        "What makes tokens similar. first_block, stem, latent: features that know nothing of the text. "
        "estimate: what the step before took the picture to be, the same for prompt and empty prompt. "
        "block: each block's own input, as in the paper; prompt and empty prompt then merge differently.",
        choices=METRICS,
    )
    seed: int | None = _setting(
        None,
        "Draws the kept token of each cell anew at every step. None keeps the top left one.",
        min=0,
        max=MAX_SEED,
        step=1,
        unit="seed",
    )
    start_percent: float = _setting(
        0.0, "Merge from this point of the sampling run on.", min=0.0, max=1.0, step=0.01, unit="fraction of the run"
    )
    end_percent: float = _setting(
        1.0, "Merge up to this point of the sampling run.", min=0.0, max=1.0, step=0.01, unit="fraction of the run"
    )
    cross_attention_ratio: float | None = _share("How much to merge away before cross-attention. None: as ratio.")
    mlp_ratio: float | None = _share("How much to merge away before the MLP. None: as ratio.")
    kv_ratio: float | None = _share(
        "How much to merge away in the keys and values of self-attention alone, which costs little quality. "
        "None: they are merged with the queries."
    )
    kv_downsample: int = _setting(
        1,
        "Keep only every n-th key and value of self-attention in each direction (ToDo). 1 keeps all.",
        min=1,
        max=MAX_STRIDE,
        step=1,
        unit="tokens",
    )
    proportional: bool = _setting(
        False,
        "Merged keys count as often as the tokens they stand for. Truer; slower where it rules out fused attention.",
        choices=(False, True),
    )
    refresh: int = _setting(
        1,
        "Look for similar tokens only at every n-th step, and more often in the first 40 percent of the run. 1: at "
        "each step, as always in runs of fewer than ten.",
        min=1,
        max=MAX_REFRESH,
        step=1,
        unit="steps",
    )

    def __post_init__(self) -> None:
        for name in ("levels", "parts", "stride"):
            object.__setattr__(self, name, _as_tuple(getattr(self, name)))
        for setting in fields(self):
            value = getattr(self, setting.name)
            holds, rule = _check(value, setting.default, setting.metadata)
            _require(setting.name, holds, rule, value)
            if isinstance(setting.metadata.get("max"), float) and value is not None:
                object.__setattr__(self, setting.name, float(value))
        _require("end_percent", self.end_percent > self.start_percent, "above start_percent", self.end_percent)
        is_whole = bool(set(self.parts) & set(WHOLE))
        _require(
            "parts", not is_whole or len(self.parts) == 1, "block or stack alone, or some of the others", self.parts
        )
        _require("kv_ratio", self.kv_ratio is None or not is_whole, "None where parts is block or stack", self.kv_ratio)
        for name in ("cross_attention_ratio", "mlp_ratio"):
            own = getattr(self, name)
            _require(name, own is None or not is_whole, "None where parts is block or stack", own)
        one_rule = "1 where parts is block or stack, and where kv_ratio is given"
        is_free = self.kv_ratio is None and not is_whole
        _require("kv_downsample", self.kv_downsample == 1 or is_free, one_rule, self.kv_downsample)

    @property
    def is_neutral(self) -> bool:
        """Whether the model stays untouched."""
        merges_keys = self.has_own_keys and (self.kv_downsample > 1 or self.kv_ratio != 0)
        return not merges_keys and all(self.ratio_of(part) == 0 for part in self.parts)

    @property
    def has_own_keys(self) -> bool:
        """Whether the keys and values of self-attention are others than its queries."""
        return "attention" in self.parts and (self.kv_ratio is not None or self.kv_downsample > 1)

    @property
    def merged_parts(self) -> tuple[str, ...]:
        """The parts that merge by a ratio, with "keys" where they have one of their own."""
        return (*self.parts, *(("keys",) if self.has_own_keys and self.kv_downsample == 1 else ()))

    @property
    def weighs_keys(self) -> bool:
        """Whether merged keys of self-attention count by their sizes."""
        return self.proportional and bool({"attention", *WHOLE} & set(self.parts))

    def ratio_of(self, part: str) -> float:
        """Return the ratio of a part, or of "keys", the keys and values of self-attention."""
        own = {"cross_attention": self.cross_attention_ratio, "mlp": self.mlp_ratio, "keys": self.kv_ratio}.get(part)
        return self.ratio if own is None else own

    def tokens_to_merge(self, tokens: int, part: str = "attention") -> int:
        """Return how many of `tokens` the ratio of a part asks to merge away, rounded down."""
        return int(tokens * self.ratio_of(part))

    @property
    def max_ratio(self) -> float:
        """The ratio above which nothing more merges: each cell of the stride keeps one token."""
        sy, sx = self.stride
        return 1 - 1 / (sy * sx)

    @property
    def exceeds_max_ratio(self) -> bool:
        """Whether less merges than some ratio asks for, on any grid."""
        return max(map(self.ratio_of, self.merged_parts)) > self.max_ratio


def _as_tuple(value: Any) -> tuple[Any, ...]:
    """Return a sequence as a tuple, and a single value as a tuple of one."""
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)


def _require(name: str, holds: bool, rule: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{name} must be {rule}, got {value!r}")


def _check(value: Any, default: Any, bounds: Mapping[str, Any]) -> tuple[bool, str]:
    """Return whether a value is within the bounds of its field, and the rule in words; `default` tells its kind."""
    if "choices" in bounds:
        choices = bounds["choices"]
        if not isinstance(default, tuple):
            return value in choices, f"one of {choices}"
        are_known = _are_different(value) and all(item in choices for item in value)
        return are_known, f"one or more of {choices}, each once"
    least, most = bounds["min"], bounds["max"]
    if isinstance(default, float):
        return _is_number(value, least, most), f"a number from {least:g} to {most:g}"
    if default is None and isinstance(most, float):
        return value is None or _is_number(value, least, most), f"None or a number from {least:g} to {most:g}"
    if default is None:
        return value is None or _is_whole(value, least, most), f"None or a whole number from {least} to {most}"
    if isinstance(default, int):
        return _is_whole(value, least, most), f"a whole number from {least} to {most}"
    are_whole = all(_is_whole(item, least, most) for item in value)
    if len(default) == 2:
        is_cell = are_whole and len(value) == 2 and value != (1, 1)
        return is_cell, f"two whole numbers from {least} to {most}, one of them above 1"
    return are_whole and _are_different(value), f"one or more different whole numbers from {least} to {most}"


def _is_number(value: Any, least: float, most: float) -> bool:
    # NaN compares false
    return isinstance(value, Real) and not isinstance(value, bool) and least <= float(value) <= most


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _are_different(values: tuple[Any, ...]) -> bool:
    return len(values) > 0 and all(value not in values[:i] for i, value in enumerate(values))
