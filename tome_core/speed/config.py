"""What a user chooses about token merging for speed: names, bounds, units and help sentences live here once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..settings import Cell, Choice, Choices, Number, Switch, Whole, Wholes, require, setting, settle

Grid = tuple[int, int]  # height and width in tokens

WHOLE = ("block", "stack")  # merged around once, and so chosen alone
PARTS = ("attention", "cross_attention", "mlp", *WHOLE)
MATCHINGS = ("bipartite", "window")
METRICS = ("estimate", "block", "latent")
MAX_LEVEL = 8
MAX_STRIDE = 8
MAX_REFRESH = 50
MAX_SEED = 2**63 - 1
MAX_TOKENS = 2**20
TOKEN_SHARE = "fraction of tokens"


def _own_ratio(help: str) -> Any:
    """Return the field of a ratio that need not be given."""
    return setting(None, Number(help, TOKEN_SHARE, 0.0, 1.0, 0.05, optional=True))


@dataclass(frozen=True)
class SpeedConfig:
    """Token merging for fast Stable Diffusion (Bolya & Hoffman 2023). Neutral at `ratio` 0.

    `settings.kinds` gives the kind of each field: bounds, step, unit, choices and help. A list, or a single level or
    part, is stored as a tuple. Departures from the paper, all of them settings: levels are counted from the
    finest one that has transformer blocks (the paper's code counts from the latent, where SDXL has none); one plan
    serves a whole level and does not depend on the text unless `metric` is "block"; the kept tokens are not drawn at
    random unless `seed` is given.

    Raises:
        ValueError: a field breaks its rule, as "<name> must be <rule>, got <value>".
    """

    ratio: float = setting(
        0.5,
        Number(
            "How much of the image to merge away before attention. 0 is the untouched model.",
            TOKEN_SHARE,
            0.0,
            1.0,
            0.05,
        ),
    )
    levels: tuple[int, ...] = setting(
        (1,),
        Wholes(
            "Where to merge: 1 is the finest level of the model that has attention, 2 the next coarser one.",
            "level",
            1,
            MAX_LEVEL,
            1,
        ),
    )
    parts: tuple[str, ...] = setting(
        ("attention",),
        Choices(
            "What runs on merged tokens. Cross-attention and MLP save more and cost more quality. block: all three, "
            "merged once; stack: all blocks in a row, merged once (SDXL has ten in a row). These two stand alone.",
            PARTS,
        ),
    )
    stride: tuple[int, int] = setting(
        (2, 2),
        Cell(
            "Height and width of the cell in which one token is always kept. Caps the ratio at 1 - 1 / (height * "
            "width).",
            "tokens",
            1,
            MAX_STRIDE,
            1,
        ),
    )
    matching: str = setting(
        "bipartite",
        Choice(
            "bipartite: a token merges with the most similar kept one anywhere in the image. window: only inside its "
            "cell.",
            MATCHINGS,
        ),
    )
    metric: str = setting(
        "estimate",
        Choice(
            "What makes tokens similar. estimate: the clean image predicted at the previous step, the same for prompt "
            "and empty prompt; the first two steps see the noisy latent. block: each block's own input, as in the "
            "paper; prompt and empty prompt then merge differently. latent: the noisy latent at every step.",
            METRICS,
        ),
    )
    seed: int | None = setting(
        None,
        Whole(
            "Draws the kept token of each cell anew at every step. None keeps the top left one.",
            "seed",
            0,
            MAX_SEED,
            1,
            optional=True,
        ),
    )
    start_percent: float = setting(
        0.0,
        Number(
            "Merge from this point of the sampling run on. Later keeps more of the composition, and gains less.",
            "fraction of the run",
            0.0,
            1.0,
            0.01,
        ),
    )
    end_percent: float = setting(
        1.0, Number("Merge up to this point of the sampling run.", "fraction of the run", 0.0, 1.0, 0.01)
    )
    cross_attention_ratio: float | None = _own_ratio("How much to merge away before cross-attention. None: as ratio.")
    mlp_ratio: float | None = _own_ratio("How much to merge away before the MLP. None: as ratio.")
    kv_ratio: float | None = _own_ratio(
        "How much to merge away in the keys and values of self-attention alone, which costs little quality. "
        "None: they are merged with the queries."
    )
    kv_downsample: int = setting(
        1,
        Whole(
            "Keep only every n-th key and value of self-attention in each direction (ToDo). 1 keeps all.",
            "tokens",
            1,
            MAX_STRIDE,
            1,
        ),
    )
    proportional: bool = setting(
        False,
        Switch(
            "Merged keys count as often as the tokens they stand for. Truer; slower where it rules out fused attention."
        ),
    )
    refresh: int = setting(
        1,
        Whole(
            "Look for similar tokens only at every n-th step, and more often in the first 40 percent of the run. 1: at "
            "each step, as always in runs of fewer than ten.",
            "steps",
            1,
            MAX_REFRESH,
            1,
        ),
    )
    min_tokens: int = setting(
        0,
        Whole(
            "Levels with fewer tokens than this stay untouched: in small ones merging takes longer than it saves.",
            "tokens",
            0,
            MAX_TOKENS,
            64,
        ),
    )

    def __post_init__(self) -> None:
        if isinstance(self.metric, str) and self.metric in RETIRED_METRICS:
            raise ValueError(f"metric must be one of {METRICS}, got {self.metric!r}: {RETIRED_METRICS[self.metric]}")
        settle(self)
        require("end_percent", self.end_percent > self.start_percent, "above start_percent", self.end_percent)
        is_whole = bool(set(self.parts) & set(WHOLE))
        require(
            "parts", not is_whole or len(self.parts) == 1, "block or stack alone, or some of the others", self.parts
        )
        require("kv_ratio", self.kv_ratio is None or not is_whole, "None where parts is block or stack", self.kv_ratio)
        for name in ("cross_attention_ratio", "mlp_ratio"):
            own = getattr(self, name)
            require(name, own is None or not is_whole, "None where parts is block or stack", own)
        one_rule = "1 where parts is block or stack, and where kv_ratio is given"
        is_free = self.kv_ratio is None and not is_whole
        require("kv_downsample", self.kv_downsample == 1 or is_free, one_rule, self.kv_downsample)

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
    def separate_parts(self) -> tuple[str, ...]:
        """The parts that merge one by one: those asked for, or what stands in where a whole block must not merge."""
        return ("attention", "mlp") if set(self.parts) & set(WHOLE) else self.parts

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


RETIRED_METRICS: Final[Mapping[str, str]] = {
    name: f"metric {name} is gone: estimate, which keeps pictures closer, is in its place"
    for name in ("first_block", "stem")
}
_RETIRED_GUARD: Final = (
    "guard is gone, since merging depends on no clock any more; min_tokens 64 leaves small levels untouched"
)


def without_retired(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return settings by name without those of version 0.1.0 that are gone, and a sentence for each of these."""
    kept, notes = dict(settings), []
    if kept.pop("guard", False):
        notes.append(_RETIRED_GUARD)
    if kept.get("metric") in RETIRED_METRICS:
        notes.append(RETIRED_METRICS[kept.pop("metric")])
    return kept, notes


def config_or_default(config: SpeedConfig | None) -> SpeedConfig:
    """Return a config, or the defaults for None.

    Raises:
        TypeError: it is no SpeedConfig, for example a preset's word.
    """
    if config is not None and not isinstance(config, SpeedConfig):
        raise TypeError(f"config must be a SpeedConfig, as speed_preset makes one of a preset's word; got {config!r}")
    return SpeedConfig() if config is None else config
