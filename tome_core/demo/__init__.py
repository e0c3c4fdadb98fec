"""The model that comes with the suite: coloured shapes on light grounds, in Stable Diffusion 1.5's form."""

from .loader import CHECKPOINT, DEMO_GUIDANCE, DEMO_PROMPTS, load_demo
from .words import untaught_words

__all__ = ["CHECKPOINT", "DEMO_GUIDANCE", "DEMO_PROMPTS", "load_demo", "untaught_words"]
