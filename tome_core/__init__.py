"""Token merging for diffusion models, as plain PyTorch: one room per technique, `merging` below them all."""

__version__ = "0.1.0"
