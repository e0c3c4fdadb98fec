"""Token Merging for Training-Free Semantic Binding (Hu et al. 2024): what a prompt says of a thing stays with it."""

from .bound import BoundPrompt
from .composite import Layout, RowGroup, bind_rows
from .config import BindingConfig
from .diffusers import BindingHandle, apply_binding
from .diffusers_maps import MapRecorder, record_maps
from .overlay import overlay
from .parse import Group, Parse, Span
from .phrases import phrases
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
