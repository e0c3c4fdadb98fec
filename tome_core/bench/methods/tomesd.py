"""The package of the authors of Token Merging for Fast Stable Diffusion (Bolya and Hoffman 2023), to compare with."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Final

from torch import nn

from ...demo.architecture import seeded
from ...speed.config import WHOLE
from ...speed.doors.diffusers import find_unet
from ...speed.layouts import read_layout
from ..drawing import sampling
from ..drawing.method import LeftOutError, sources
from ..drawing.sampling import Drawn, Settings
from ..suites import Case
from .merging import Merging

TOMESD: Final = "tomesd"
_PARTS: Final = {"merge_attn": "attention", "merge_crossattn": "cross_attention", "merge_mlp": "mlp"}


class Tomesd(Merging):
    """Takes ratio, levels, parts and stride from the config, and its own default for levels where none are named."""

    @property
    def identity(self) -> dict[str, Any]:
        """The settings, with the package's version."""
        try:
            code = f"{sources(__file__, sampling.__file__)} tomesd {version(TOMESD)}"
        except PackageNotFoundError:  # it will be left out
            code = ""
        return {"kind": TOMESD, "config": asdict(self.config), "given": sorted(dict(self.given)), "code": code}

    def on(self, model: Any, cases: Sequence[Case] = ()) -> AbstractContextManager[object]:
        """Return a context as `Merging.on` does; entering it raises `LeftOutError` where tomesd cannot take part."""
        return _patched(find_unet(model), self)

    def draw(self, pipeline: Any, cases: Sequence[Case], settings: Settings) -> Drawn:
        """Return one picture a case. Kept tokens are drawn from torch's global generator, so that one is seeded."""
        with seeded(0):
            return super().draw(pipeline, cases, settings)

    def try_out(self, pipeline: Any, cases: Sequence[Case], settings: Settings) -> list[str]:
        """Draw one step of one picture. Whatever fails leaves the method out."""
        with seeded(0), leaving_out():
            return super().try_out(pipeline, cases, settings)


@contextmanager
def leaving_out() -> Iterator[None]:
    """Inside the block, whatever fails is a `LeftOutError`."""
    try:
        yield
    except LeftOutError:
        raise
    except Exception as error:
        raise LeftOutError(f"it fails on this model and size with {type(error).__name__}: {error}") from error


@contextmanager
def _patched(unet: nn.Module, method: Merging) -> Iterator[None]:
    """Merge with the package, and clear away the attributes that it leaves on a model."""
    config, max_downsample = method.config, _max_downsample(unet, method)
    if set(config.parts) & set(WHOLE):
        raise LeftOutError("tomesd merges around attention, cross-attention and MLP apart, never around a whole block")
    if find_spec(TOMESD) is None:
        raise LeftOutError("tomesd is not installed; to compare with it: pip install tomesd==0.1.3")
    tomesd = import_module(TOMESD)
    before = {module: set(vars(module)) for module in unet.modules()}
    try:
        around = {name: part in config.parts for name, part in _PARTS.items()}
        cell = dict(zip(("sy", "sx"), config.stride, strict=True))
        tomesd.apply_patch(unet, ratio=config.ratio, max_downsample=max_downsample, **cell, **around)
        yield
    finally:
        tomesd.remove_patch(unet)
        for module, names in before.items():
            for name in set(vars(module)) - names:
                del vars(module)[name]


def _max_downsample(unet: nn.Module, method: Merging) -> int:
    """Return the package's limit for the levels that were asked for; without any, its own default."""
    if "levels" not in dict(method.given):
        return 1
    levels, asked = read_layout(unet).levels, sorted(method.config.levels)
    if asked != list(range(1, len(asked) + 1)) or len(asked) > len(levels):
        raise LeftOutError(f"tomesd merges at every level down to a limit, so levels {tuple(asked)} are not for it")
    return levels[asked[-1] - 1].downsample
