"""When the judge declines to answer: its word for that, and how much nearer the best answer must be than the next."""

from typing import Final

UNSURE: Final = "unsure"
"""Stands for a colour or a shape of which the judge does not know which of the taught ones it is, or whether any."""

MOST_RATIO: Final = 2 / 3
"""Most that the distance to the best answer may be of that to the second best.

For a colour on the straight line between two others this makes the middle fifth unsure; the same rule serves shapes.
"""
