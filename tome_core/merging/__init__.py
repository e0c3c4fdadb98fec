"""Token merging: who merges with whom (`matching`), and the value that says so (`MergePlan`)."""

from .matching import bipartite_soft_matching, bipartite_soft_matching_2d, window_matching
from .plan import MergePlan

__all__ = ["MergePlan", "bipartite_soft_matching", "bipartite_soft_matching_2d", "window_matching"]
