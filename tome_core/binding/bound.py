"""What was bound in one prompt, as the doors hand it on."""

from dataclasses import dataclass

from .composite import RowGroup
from .parse import Parse


@dataclass(frozen=True)
class BoundPrompt:
    """What was bound in one prompt: its parse, and the rows of each group for the first text encoder."""

    parse: Parse
    groups: tuple[RowGroup, ...]
