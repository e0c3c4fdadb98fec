"""Token Merging for Training-Free Semantic Binding (Hu et al. 2024): the modifiers of a thing stay with it."""

# ruff: noqa: F401  # a type checker reads the imports, and `_HOMES` names the same ones when the program runs

from typing import TYPE_CHECKING

from ..lazy import importer

if TYPE_CHECKING:
    from .config import BindingConfig
    from .doors.diffusers import BindingHandle, apply_binding
    from .encoding import BoundPrompt
    from .parsing.parse import Group, Parse, Span
    from .parsing.phrases import phrases
    from .rows.composite import PromptRows, RowGroup, bind_rows

_HOMES = {
    "config": ("BindingConfig",),
    "doors.diffusers": ("BindingHandle", "apply_binding"),
    "encoding": ("BoundPrompt",),
    "parsing.parse": ("Group", "Parse", "Span"),
    "parsing.phrases": ("phrases",),
    "rows.composite": ("PromptRows", "RowGroup", "bind_rows"),
}
__all__ = [name for names in _HOMES.values() for name in names]  # pyright: ignore[reportUnsupportedDunderAll]
__getattr__ = importer(__name__, _HOMES)
