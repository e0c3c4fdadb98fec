"""Pictures as nets see them: [B, 3, H, W] in [-1, 1], and as people do: [B, H, W, 3] of bytes."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_unit(pictures: NDArray[np.uint8]) -> Tensor:
    """Return pictures [B, H, W, 3] as float32 [B, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(x: Tensor) -> NDArray[np.uint8]:
    """Return [B, 3, H, W], cut to [-1, 1], as pictures [B, H, W, 3]."""
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
