"""Open Stable Diffusion checkpoints, and write small ones, without a network.

diffusers and transformers are imported when a model is opened, so that a wrong path is told at once.
"""

from .loading import load_pipeline
from .original import load_original
from .tokenizer import clip_tokenizer
from .writing import to_original_layout

__all__ = ["clip_tokenizer", "load_original", "load_pipeline", "to_original_layout"]
