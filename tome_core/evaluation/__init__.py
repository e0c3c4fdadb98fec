"""Methods compared on the same prompts and seeds: what a picture holds, how that meets its prompt, and the figures."""

from .colours import ColourFit
from .doubt import UNSURE
from .judge import Found, Verdict, judge
from .scoring import Binding, Fate, Score, score
from .shapes import ShapeFit
from .summary import Summary, summarise

__all__ = [
    "UNSURE",
    "Binding",
    "ColourFit",
    "Fate",
    "Found",
    "Score",
    "ShapeFit",
    "Summary",
    "Verdict",
    "judge",
    "score",
    "summarise",
]
