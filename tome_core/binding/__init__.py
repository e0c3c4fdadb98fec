"""Token Merging for Training-Free Semantic Binding (Hu et al. 2024): what a prompt says of a thing stays with it."""

from .composite import Layout, RowGroup, bind_rows
from .config import BindingConfig
from .parse import Group, Parse, Span
from .phrases import phrases

__all__ = ["BindingConfig", "Group", "Layout", "Parse", "RowGroup", "Span", "bind_rows", "phrases"]
