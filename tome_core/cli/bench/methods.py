"""The methods that a benchmark compares, as a user writes them: untouched, ours, todo, tomesd, each with its settings.

untouched,ours,ours:preset=fast,ours:levels=1+2,parts=attention+mlp,tomesd,tomesd:levels=1+2,todo:kv_downsample=3
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from torch import nn

from ...settings import kinds
from ...speed import SpeedConfig
from ...speed.config import WHOLE
from ...speed.doors.diffusers import find_unet
from ...speed.layouts import read_layout
from ..console import UserError, note
from ..presets import UNTOUCHED, Choice
from ..settings import merge
from .ceiling import free_matcher

OURS: Final = "ours"
TODO: Final = "todo"  # Smith et al. 2024, arXiv 2402.13573, in our own code: fewer keys and values, every query
TOMESD: Final = "tomesd"
_CEILING: Final = "ceiling"
MERGINGS: Final = (OURS, TODO, TOMESD)
SHARED: Final = ("ratio", "levels", "parts")  # settings that every method takes that has them and names no other


class LeftOutError(Exception):
    """A method cannot take part; the message is one sentence that says why."""


@dataclass(frozen=True)
class Merging:
    """One way to run a denoiser.

    Attributes:
        name: as the user wrote it.
        kind: what is before the colon.
        config: what to merge; tomesd takes ratio, levels, parts and stride from it.
        given: the settings that were named; tomesd keeps its own default for levels otherwise.
    """

    name: str
    kind: str
    config: SpeedConfig
    given: frozenset[str]
    choice: Choice = field(default=Choice({}), compare=False)  # the config comes of it

    def fitted(self, unet: nn.Module) -> "Merging":
        """Return the method with what its preset says for the family of a model."""
        if self.choice.preset is None:
            return self
        return replace(self, config=self.choice.config(read_layout(unet).family))

    def on(self, model: object) -> AbstractContextManager[object]:
        """Return a context in which a UNet, or a pipeline's, runs this way, and after which nothing is left on it.

        Entering it raises `LeftOutError` if the method cannot take part, and `UserError` for a level the model lacks.
        """
        return _KINDS[self.kind](model, self)

    def ceiling(self) -> "Merging | None":
        """Return the same with a merge that costs nothing; None for other packages, and for ToDo, which is a slice."""
        return replace(self, name=f"ceiling of {self.name}", kind=_CEILING) if self.kind == OURS else None


def split_methods(text: str) -> list[str]:
    """Return the different items of a comma-separated list. One with a "=" and no ":" goes on with that before it.

    Raises `UserError` for a list of none.
    """
    items: list[str] = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        if items and "=" in item and ":" not in item:
            items[-1] += f",{item}"
        else:
            items.append(item)
    if not items:
        raise UserError(f"methods must name at least one, got {text!r}")
    return list(dict.fromkeys(items))


def parse_methods(text: str, shared: Mapping[str, Any]) -> list[Merging]:
    """Return the methods of a list, untouched first, with `shared` settings where they name no other.

    Raises `UserError`.
    """
    others = [parse_method(item, shared) for item in split_methods(text) if item != UNTOUCHED]
    return [Merging(UNTOUCHED, UNTOUCHED, SpeedConfig(ratio=0.0), frozenset()), *others]


def parse_method(text: str, shared: Mapping[str, Any]) -> Merging:
    """Return the merging method of an item. Raises `UserError`."""
    kind, _, rest = text.partition(":")
    if kind not in MERGINGS:
        raise UserError(f"methods must be among {', '.join((UNTOUCHED, *MERGINGS))}, got {text!r}")
    values = {name: value for name, value in shared.items() if value is not None}
    if kind == TODO:
        for name in sorted(set(values) - set(_SETTINGS[TODO])):
            note(f"--{name} has no effect on {TODO}, whose settings are {', '.join(_SETTINGS[TODO])}")
            del values[name]
        values |= {"ratio": 0.0, "kv_downsample": 2}
    for item in filter(None, rest.split(",")):
        name, _, value = item.partition("=")
        if name not in _SETTINGS[kind]:
            raise UserError(f"{kind} has no setting {name!r}; it has {', '.join(_SETTINGS[kind])}")
        try:
            values[name] = (
                _PRESET_SETTINGS[name](value) if name in _PRESET_SETTINGS else kinds(SpeedConfig)[name].parse(value)
            )
        except ValueError:
            raise UserError(f"{name} cannot be {value!r}, in {text!r}") from None
    preset, strength = values.pop("preset", None), values.pop("strength", None)
    choice = Choice(values, preset, strength)
    return Merging(text, kind, choice.config(), frozenset(values), choice)


@contextmanager
def _tomesd(model: object, method: Merging) -> Iterator[None]:
    """Merge with the authors' package, and clear away the attributes that it leaves on a model."""
    unet = find_unet(model)
    max_downsample = _max_downsample(unet, method)
    if set(method.config.parts) & set(WHOLE):
        raise LeftOutError("tomesd merges around attention, cross-attention and MLP apart, never around a whole block")
    if find_spec(TOMESD) is None:
        raise LeftOutError("tomesd is not installed; to compare with it: pip install tomesd==0.1.3")
    tomesd, config = import_module(TOMESD), method.config
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


def _ceiling(model: object, method: Merging) -> AbstractContextManager[object]:
    """Merge at no cost. A timed call begins a run of its own and reuses no plan, so that refresh is left out."""
    return merge(model, replace(method.config, refresh=1), matcher=free_matcher(method.config.stride))


def _max_downsample(unet: nn.Module, method: Merging) -> int:
    """Return tomesd's limit for the levels that were asked for; without any, its own default."""
    if "levels" not in method.given:
        return 1
    levels, asked = read_layout(unet).levels, sorted(method.config.levels)
    if asked != list(range(1, len(asked) + 1)) or len(asked) > len(levels):
        raise LeftOutError(f"tomesd merges at every level down to a limit, so levels {tuple(asked)} are not for it")
    return levels[asked[-1] - 1].downsample


_KINDS: Final[dict[str, Callable[[object, Merging], AbstractContextManager[object]]]] = {
    UNTOUCHED: lambda model, method: nullcontext(),
    OURS: lambda model, method: merge(model, method.config),
    TODO: lambda model, method: merge(model, method.config),
    TOMESD: _tomesd,
    _CEILING: _ceiling,
}
_PRESET_SETTINGS: Final[dict[str, Callable[[str], Any]]] = {"preset": str, "strength": float}
_SETTINGS: Final[dict[str, tuple[str, ...]]] = {
    OURS: (*_PRESET_SETTINGS, *kinds(SpeedConfig)),
    TODO: ("kv_downsample", "levels"),
    TOMESD: ("ratio", "levels", "parts", "stride"),
}
