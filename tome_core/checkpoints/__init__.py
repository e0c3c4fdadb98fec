"""Open Stable Diffusion checkpoints, and write small ones, without a network.

diffusers and transformers are imported when a model is opened, so that a wrong path is named at once.
"""

from .loading import load_pipeline
from .original import load_original, quiet_libraries, to_original_layout
from .tokenizer import clip_tokenizer

__all__ = ["clip_tokenizer", "load_original", "load_pipeline", "quiet_libraries", "to_original_layout"]
