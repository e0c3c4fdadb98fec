"""What a picture of flat shapes holds, and how that meets its prompt."""

from .colours import ColourFit
from .judge import Found, judge
from .scoring import Fate, Score, score
from .segmentation import UNSURE
from .shapes import ShapeFit

__all__ = ["UNSURE", "ColourFit", "Fate", "Found", "Score", "ShapeFit", "judge", "score"]
