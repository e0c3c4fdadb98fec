"""The nets of the demo model: Stable Diffusion 1.5's layout at the least width that its GroupNorm(32) allows.

Its text tower comes from a CLIP of its own: text tower, picture tower and both projections (Radford et al. 2021).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

TEXT_WIDTH: Final = 96
PICTURE_SIZE: Final = 64  # side of the pictures that the contrastive picture tower sees, in pixels
LATENT_SCALE: Final = 0.18215  # SD1.5's: hosts multiply latents by it before the denoiser sees them

UNET: Final[dict[str, Any]] = {
    "sample_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (32, 64, 128, 128),
    "layers_per_block": 2,
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": 2,  # diffusers' old name for the number of heads, as in SD1.5's own config
}
AUTOENCODER: Final[dict[str, Any]] = {
    "sample_size": 256,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": (64, 64, 64, 64),  # two channels a norm group: with one, a flat colour would be normed away
    "layers_per_block": 0,  # the decoder has one residual block more at each level, the encoder only strides
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "norm_num_groups": 32,
    "scaling_factor": LATENT_SCALE,
}
TEXT: Final[dict[str, Any]] = {
    "vocab_size": 49408,
    "hidden_size": TEXT_WIDTH,
    "intermediate_size": 4 * TEXT_WIDTH,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "projection_dim": TEXT_WIDTH,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 49407,
}
SCHEDULER: Final[dict[str, Any]] = {
    "_class_name": "DPMSolverMultistepScheduler",
    "algorithm_type": "sde-dpmsolver++",  # noise added on the way lets it mend what it began wrongly; from 20 steps on
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "prediction_type": "epsilon",
}
CONFIGS: Final = {"unet": UNET, "vae": AUTOENCODER, "text_encoder": TEXT, "scheduler": SCHEDULER}
"""What `checkpoints.load_original` needs beside the weights."""
HEADS: Final = Path(__file__).parent / "weights" / "tome-demo-clip.safetensors"
"""The picture tower and both projections, float16; the text tower is in the checkpoint."""


class PictureTower(nn.Module):
    """The picture half of the contrastive pair: four strided convolutions, mean over places, one projection."""

    def __init__(self) -> None:
        super().__init__()
        channels = (3, 32, 64, 96, 192)
        stages = [
            nn.Sequential(nn.Conv2d(c_in, c_out, 3, stride=2, padding=1), nn.GroupNorm(8, c_out), nn.GELU())
            for c_in, c_out in pairwise(channels)
        ]
        self.stages = nn.Sequential(*stages, nn.Conv2d(192, 192, 3, padding=1), nn.GELU())
        self.projection = nn.Linear(192, TEXT_WIDTH, bias=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return [B, TEXT_WIDTH] embeddings, not normalised, of pictures [B, 3, 64, 64] in [-1, 1]."""
        return self.projection(self.stages(pictures).mean(dim=(2, 3)))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let torch's global generator start from a seed, and be as it was before afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def to_unit(pictures: NDArray[np.uint8]) -> Tensor:
    """Return pictures [B, H, W, 3] as nets see them: float32 [B, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(x: Tensor) -> NDArray[np.uint8]:
    """Return [B, 3, H, W], cut to [-1, 1], as people see it: pictures [B, H, W, 3]."""
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def end_places(tokens: Tensor) -> Tensor:
    """Return the place of the first end token in each row of token ids [B, L], as [B]."""
    return (tokens == TEXT["eos_token_id"]).int().argmax(dim=1)


class ContrastivePair(nn.Module):
    """Both towers and the learned temperature."""

    def __init__(self, text: nn.Module | None = None) -> None:
        super().__init__()
        if text is None:  # untrained: 5.4 M parameters, of which 4.7 M are the vocabulary's
            from transformers import CLIPTextConfig, CLIPTextModel

            text = CLIPTextModel(CLIPTextConfig(**TEXT))
        self.text = text
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
