"""Methods against the untouched pictures, on the same prompts and noise: drawn once, kept, read, and compared."""

from .contest import Contest, Entry
from .controls import CONTROLS, NEGATIVE, POSITIVE
from .figures import Readings, Result, Spread, outcome, result
from .gate import PICTURES, TESTS, Gate, attribute_hits, missing_in_gate, run_gate
from .method import BASELINE, Method, sources
from .model import AnyModel, Model, library_versions
from .painting import Easel, Painter
from .plot import can_plot, plot
from .readings import Reader
from .store import Store, key_of
from .tables import markdown

__all__ = [
    "BASELINE",
    "CONTROLS",
    "NEGATIVE",
    "PICTURES",
    "POSITIVE",
    "TESTS",
    "AnyModel",
    "Contest",
    "Easel",
    "Entry",
    "Gate",
    "Method",
    "Model",
    "Painter",
    "Reader",
    "Readings",
    "Result",
    "Spread",
    "Store",
    "attribute_hits",
    "can_plot",
    "key_of",
    "library_versions",
    "markdown",
    "missing_in_gate",
    "outcome",
    "plot",
    "result",
    "run_gate",
    "sources",
]
