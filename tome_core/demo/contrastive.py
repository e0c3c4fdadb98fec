"""The demo model's own CLIP: text tower, picture tower and both projections (Radford et al. 2021)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from .architecture import TEXT_WIDTH, PictureTower, build_text, end_places

HEADS: Final = Path(__file__).parent / "weights" / "tome-demo-clip.safetensors"
"""The picture tower and both projections, float16; the text tower is in the checkpoint."""


class ContrastivePair(nn.Module):
    """Both towers and the learned temperature."""

    def __init__(self, text: nn.Module | None = None) -> None:
        super().__init__()
        self.text = build_text() if text is None else text
        self.project_text = nn.Linear(TEXT_WIDTH, TEXT_WIDTH, bias=False)
        self.picture = PictureTower()
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, tokens: Tensor, pictures: Tensor) -> Tensor:
        """Return the symmetric InfoNCE loss of B pairs: tokens [B, L], pictures [B, 3, 64, 64] in [-1, 1]."""
        said = F.normalize(self.embed_text(tokens), dim=-1)
        seen = F.normalize(self.picture(pictures), dim=-1)
        logits = self.log_scale.exp().clamp(max=100) * said @ seen.T
        target = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    def embed_text(self, tokens: Tensor) -> Tensor:
        """Return the projected row of the first end token, [B, TEXT_WIDTH]."""
        rows = self.text(tokens).last_hidden_state
        return self.project_text(rows[torch.arange(len(rows)), end_places(tokens)])

    def heads(self) -> dict[str, Tensor]:
        """Return the weights of everything but the text tower."""
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("text.")}


def load_pair(text: nn.Module, heads: Path = HEADS) -> ContrastivePair:
    """Return the trained pair around a demo pipeline's `text_encoder`."""
    pair = ContrastivePair(text)
    pair.load_state_dict(load_file(heads), strict=False)
    return pair.eval().requires_grad_(False)
