"""The terminal's door to the suite: `tome demo`, `tome generate`, `tome bind` and more; one file a command."""

from .entry import main, run

__all__ = ["main", "run"]
