"""A diffusion transformer as small as can be: joint sequences of text and image, rotary positions, two kinds of blocks.

As in Flux, a double block takes text and image apart and returns both, and a single block takes [text; image]. What
rides along is a position for each token of that joint sequence.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = 16


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """Return x [B, N, C] with pairs of channels turned by an angle for each token, positions [1 or B, N]."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = positions.cos().unsqueeze(-1), positions.sin().unsqueeze(-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class JointBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(CHANNELS, 3 * CHANNELS), nn.Linear(CHANNELS, CHANNELS)
        self.mlp = nn.Sequential(nn.Linear(CHANNELS, 2 * CHANNELS), nn.GELU(), nn.Linear(2 * CHANNELS, CHANNELS))
        self.norm1, self.norm2 = nn.LayerNorm(CHANNELS), nn.LayerNorm(CHANNELS)

    def joint(self, x: Tensor, positions: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        x = x + self.out(functional.scaled_dot_product_attention(rotate(q, positions), rotate(k, positions), v))
        return x + self.mlp(self.norm2(x))


class DoubleBlock(JointBlock):
    def forward(self, *, text: Tensor, image: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        joint = self.joint(torch.cat([text, image], dim=1), positions)
        return joint[:, : text.shape[1]], joint[:, text.shape[1] :]


class SingleBlock(JointBlock):
    def forward(self, x: Tensor, *, positions: Tensor) -> Tensor:
        return self.joint(x, positions)


class ToyTransformer(nn.Module):
    """Predicts [B, 4, height, width] from noisy latents, timesteps and a text [B, T, 16]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.double_blocks = nn.ModuleList(DoubleBlock() for _ in range(2))
        self.single_blocks = nn.ModuleList(SingleBlock() for _ in range(3))
        self.entry, self.exit = nn.Linear(4, CHANNELS), nn.Linear(CHANNELS, 4)
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        tokens = self.entry(x.flatten(2).transpose(1, 2)) + timesteps.reshape(-1, 1, 1).sin()
        positions = torch.arange(context.shape[1] + tokens.shape[1], dtype=torch.float32).unsqueeze(0) / 10
        for block in self.double_blocks:
            context, tokens = block(text=context, image=tokens, positions=positions)
        joint = torch.cat([context, tokens], dim=1)
        for block in self.single_blocks:
            joint = block(joint, positions=positions)
        tokens = self.exit(joint[:, context.shape[1] :])
        return tokens.transpose(1, 2).unflatten(2, (x.shape[2], x.shape[3]))
