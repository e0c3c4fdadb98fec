"""Merging as a user writes it: ours, todo, tomesd, each with its settings after a colon.

ours,ours:preset=fast,ours:levels=1+2,parts=attention+mlp,tomesd,tomesd:levels=1+2,todo:kv_downsample=3
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Final

from torch import nn

from ... import merging, speed
from ...demo.architecture import seeded
from ...errors import UserError, as_user_error
from ...presets import SPEED_PRESETS, speed_preset
from ...settings import kinds
from ...speed import Matcher, SpeedConfig, SpeedHandle, apply_speed
from ...speed.config import WHOLE
from ...speed.doors.diffusers import find_unet
from ...speed.layouts import read_layout
from ..drawing import sampling
from ..drawing.method import UNTOUCHED, LeftOutError, Method, sources
from ..drawing.sampling import Drawn, Settings, draw
from ..suites import Case

OURS: Final = "ours"
TODO: Final = "todo"  # Smith et al. 2024, arXiv 2402.13573, in our own code: fewer keys and values, every query
TOMESD: Final = "tomesd"
MERGINGS: Final = (OURS, TODO, TOMESD)
SHARED: Final = ("ratio", "levels", "parts")  # settings that every method takes that has them and names no other
_PRESET: Final[dict[str, Callable[[str], Any]]] = {"preset": str, "strength": float}
_SETTINGS: Final[dict[str, tuple[str, ...]]] = {
    OURS: (*_PRESET, *kinds(SpeedConfig)),
    TODO: ("kv_downsample", "levels"),
    TOMESD: ("ratio", "levels", "parts", "stride"),
}
_LOGGER: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Merging(Method):
    """One way to run a denoiser.

    Attributes:
        kind: what is before the colon.
        config: what to merge; tomesd takes ratio, levels, parts and stride from it.
        given: the settings that were named, but for preset and strength; tomesd has its own default for levels.
        preset, strength: those that were named, which the config comes of.
    """

    kind: str
    config: SpeedConfig
    given: tuple[tuple[str, Any], ...] = ()
    preset: str | None = None
    strength: float | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """The kind and its config, with the code that merges."""
        if self.kind == UNTOUCHED:
            return super().identity
        own = self.kind != TOMESD
        return {
            "kind": self.kind,
            "config": asdict(self.config),
            "given": [] if own else sorted(dict(self.given)),
            "code": sources(*merging.__path__, *speed.__path__, sampling.__file__) if own else _tomesd_code(),
        }

    def fitted(self, unet: nn.Module) -> "Merging":
        """Return the method with what its preset says for the family of a model."""
        if self.preset is None:
            return self
        config = _config(dict(self.given), self.preset, self.strength, read_layout(unet).family)
        return replace(self, config=config)

    def on(self, model: Any, cases: Sequence[Case] = ()) -> AbstractContextManager[object]:
        """Return a context in which a UNet, or a pipeline's, runs this way, and after which nothing is left on it.

        Entering it raises `LeftOutError` if the method cannot take part, and `UserError` for a level the model lacks.
        """
        if self.kind == UNTOUCHED:
            return nullcontext()
        return _tomesd(model, self) if self.kind == TOMESD else merge(model, self.config)

    def draw(self, pipeline: Any, cases: Sequence[Case], settings: Settings) -> Drawn:
        """Return one picture a case. tomesd draws kept tokens from torch's global generator, so that one is seeded."""
        with seeded(0):
            return super().draw(pipeline, cases, settings)

    def try_out(self, pipeline: Any, cases: Sequence[Case], settings: Settings) -> list[str]:
        """Draw one step of one picture; return in sentences what has less effect on a whole run than was asked for."""
        whole = _Pipeline(pipeline.unet, deepcopy(pipeline.scheduler))
        whole.scheduler.set_timesteps(settings.steps)
        try:
            with seeded(0), self.on(whole) as handle:
                draw(pipeline, [cases[0].prompt], [cases[0].seed], replace(settings, steps=1))
        except RuntimeError as error:
            if self.kind != TOMESD:
                raise
            raise failed(error) from error
        return handle.report.notes if isinstance(handle, SpeedHandle) else []


@dataclass
class _Pipeline:
    """What merging knows a pipeline by, about to draw every step."""

    unet: Any
    scheduler: Any


def parse_merging(text: str, shared: Mapping[str, Any]) -> Merging:
    """Return the method of a text that begins with one of `MERGINGS`; `shared` settings count where it names no other.

    Raises `UserError`.
    """
    kind = text.partition(":")[0]
    values = {name: value for name, value in shared.items() if value is not None}
    if kind == TODO:
        for name in sorted(set(values) - set(_SETTINGS[TODO])):
            _LOGGER.warning("--%s has no effect on %s, whose settings are %s", name, TODO, ", ".join(_SETTINGS[TODO]))
            del values[name]
        values |= {"ratio": 0.0, "kv_downsample": 2}
    parsers = _PRESET | {name: field.parse for name, field in kinds(SpeedConfig).items()}
    values |= parse_settings(text, {name: parsers[name] for name in _SETTINGS[kind]})
    preset, strength = values.pop("preset", None), values.pop("strength", None)
    return Merging(text, kind, _config(values, preset, strength), tuple(values.items()), preset, strength)


def parse_settings(text: str, parsers: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """Return the settings of a method such as "ours:ratio=0.5,levels=1+2". Raises `UserError`."""
    kind, _, rest = text.partition(":")
    values = {}
    for name, _, value in (item.partition("=") for item in rest.split(",") if item):
        if name not in parsers:
            raise UserError(f"{kind} has no setting {name!r}; it has {', '.join(parsers)}")
        try:
            values[name] = parsers[name](value)
        except ValueError:
            raise UserError(f"{name} cannot be {value!r}, in {text!r}") from None
    return values


def merge(model: Any, config: SpeedConfig, matcher: Matcher | None = None) -> SpeedHandle:
    """Return `apply_speed`'s handle. Raises `UserError` for a level that the model lacks."""
    with as_user_error():
        return apply_speed(model, config, matcher=matcher)


def failed(error: Exception) -> LeftOutError:
    """Return the reason to leave out a method of another package that failed."""
    return LeftOutError(f"it fails on this model and size with {type(error).__name__}: {error}")


def _config(
    given: Mapping[str, Any], preset: str | None, strength: float | None, family: str | None = None
) -> SpeedConfig:
    """Return what a preset, a share of it, and single settings come to on a family of models."""
    with as_user_error():
        if preset is not None:
            chosen = speed_preset(preset, family, 1.0 if strength is None else strength)
            with as_user_error(f"beside preset {preset}, "):
                return replace(chosen, **given)
        if strength is not None:
            named = ", ".join(SPEED_PRESETS)
            raise UserError(f"strength must go with a preset, {named}, which it scales; or give ratio")
        return SpeedConfig(**given)


@contextmanager
def _tomesd(model: Any, method: Merging) -> Iterator[None]:
    """Merge with the authors' package, and clear away the attributes that it leaves on a model."""
    unet, config = find_unet(model), method.config
    max_downsample = _max_downsample(unet, method)
    if set(config.parts) & set(WHOLE):
        raise LeftOutError("tomesd merges around attention, cross-attention and MLP apart, never around a whole block")
    if find_spec(TOMESD) is None:
        raise LeftOutError("tomesd is not installed; to compare with it: pip install tomesd==0.1.3")
    tomesd = import_module(TOMESD)
    before = {module: set(vars(module)) for module in unet.modules()}
    try:
        tomesd.apply_patch(
            unet,
            ratio=config.ratio,
            max_downsample=max_downsample,
            sy=config.stride[0],
            sx=config.stride[1],
            merge_attn="attention" in config.parts,
            merge_crossattn="cross_attention" in config.parts,
            merge_mlp="mlp" in config.parts,
        )
        yield
    finally:
        tomesd.remove_patch(unet)
        for module, names in before.items():
            for name in set(vars(module)) - names:
                del vars(module)[name]


def _max_downsample(unet: nn.Module, method: Merging) -> int:
    """Return tomesd's limit for the levels that were asked for; without any, its own default."""
    if "levels" not in dict(method.given):
        return 1
    levels, asked = read_layout(unet).levels, sorted(method.config.levels)
    if asked != list(range(1, len(asked) + 1)) or len(asked) > len(levels):
        raise LeftOutError(f"tomesd merges at every level down to a limit, so levels {tuple(asked)} are not for it")
    return levels[asked[-1] - 1].downsample


def _tomesd_code() -> str:
    try:
        return f"{sources(__file__, sampling.__file__)} tomesd {version(TOMESD)}"
    except PackageNotFoundError:  # it will be left out
        return ""
