"""`python -m tome_core.cli` is `tome`."""

from . import run

run()
