"""Token Merging for Training-Free Semantic Binding (Hu et al. 2024): what a prompt says of a thing stays with it."""

from typing import TYPE_CHECKING

from ..lazy import importer
from .overlay import overlay  # at once, as phrases: modules of these names would hide them
from .phrases import phrases

if TYPE_CHECKING:
    from .bound import BoundPrompt
    from .composite import Layout, RowGroup, bind_rows
    from .config import BindingConfig
    from .diffusers import BindingHandle, apply_binding
    from .diffusers_maps import MapRecorder, record_maps
    from .parse import Group, Parse, Span
    from .spacy_parser import PARSERS, choose_parser

__all__ = [
    "PARSERS",
    "BindingConfig",
    "BindingHandle",
    "BoundPrompt",
    "Group",
    "Layout",
    "MapRecorder",
    "Parse",
    "RowGroup",
    "Span",
    "apply_binding",
    "bind_rows",
    "choose_parser",
    "overlay",
    "phrases",
    "record_maps",
]

__getattr__ = importer(
    __name__,
    {
        "bound": ("BoundPrompt",),
        "composite": ("Layout", "RowGroup", "bind_rows"),
        "config": ("BindingConfig",),
        "diffusers": ("BindingHandle", "apply_binding"),
        "diffusers_maps": ("MapRecorder", "record_maps"),
        "parse": ("Group", "Parse", "Span"),
        "spacy_parser": ("PARSERS", "choose_parser"),
    },
)
