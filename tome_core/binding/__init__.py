"""Token Merging for Training-Free Semantic Binding (Hu et al. 2024): what a prompt says of a thing stays with it."""

from .parse import Group, Parse, Span
from .phrases import phrases

__all__ = ["Group", "Parse", "Span", "phrases"]
