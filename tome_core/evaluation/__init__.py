"""Methods compared on the same prompts and seeds: what a picture holds, how that meets its prompt, and the figures."""

from .colours import ColourFit
from .doubt import UNSURE
from .judge import Found, Verdict, judge
from .scoring import Binding, Fate, Score, score
from .shapes import ShapeFit

__all__ = [
    "UNSURE",
    "Binding",
    "ColourFit",
    "Fate",
    "Found",
    "Score",
    "ShapeFit",
    "Verdict",
    "judge",
    "score",
]
