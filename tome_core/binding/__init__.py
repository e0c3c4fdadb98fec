"""Token Merging for Training-Free Semantic Binding (Hu et al. 2024): the modifiers of a thing stay with it."""

from typing import TYPE_CHECKING

from ..lazy import importer

if TYPE_CHECKING:
    from .config import BindingConfig
    from .doors.diffusers import BindingHandle, apply_binding
    from .encoding import BoundPrompt
    from .parsing.parse import Group, Parse, Span
    from .parsing.phrases import phrases
    from .rows.composite import PromptRows, RowGroup, bind_rows

__all__ = [
    "BindingConfig",
    "BindingHandle",
    "BoundPrompt",
    "Group",
    "Parse",
    "PromptRows",
    "RowGroup",
    "Span",
    "apply_binding",
    "bind_rows",
    "phrases",
]

__getattr__ = importer(
    __name__,
    {
        "config": ("BindingConfig",),
        "doors.diffusers": ("BindingHandle", "apply_binding"),
        "encoding": ("BoundPrompt",),
        "parsing.parse": ("Group", "Parse", "Span"),
        "parsing.phrases": ("phrases",),
        "rows.composite": ("PromptRows", "RowGroup", "bind_rows"),
    },
)
