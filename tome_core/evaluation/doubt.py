"""The judge's word for what it does not know."""

from typing import Final

UNSURE: Final = "unsure"
"""Stands for a colour or a shape of which the judge does not know which of the taught ones it is, or whether any."""
