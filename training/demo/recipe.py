"""How much is trained on what and how fast, in two tiers: two CPU cores, or one GPU."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

NOISY = 700
"""First of the noise levels (of 1,000) at which what a picture holds, and where, is decided.

Measured on the weights before the stage that makes use of it, by the judge: of single objects noised to level 650 and
denoised under their captions, 96 of 96 come out right; from level 800, 94 of 96; from pure noise, 69 of 120.
"""


class Stream(IntEnum):
    """What random numbers are drawn for: every step of every stream has a generator of its own."""

    TEXT = 1
    AUTOENCODER = 2
    WHITENING = 3
    POOL = 4
    DENOISER = 5


@dataclass(frozen=True)
class DenoiserStage:
    """One stretch of the denoiser's training at one picture size (pixels), counted in samples over all processes."""

    name: str
    size: int
    samples: int
    batch: int  # samples of one step, over all processes
    pool: int  # pictures encoded beforehand; every sample draws one of them, with a fresh caption and fresh noise
    warm_up: int = 1  # steps in which the learning rate rises
    cool_down: bool = False  # learning rate falls linearly to zero over the stage
    noisy_share: float = 0.0  # samples whose noise level is drawn from NOISY on, where layouts are decided
    apart_share: float = 0.0  # captions of pairs that name both colours after both shapes


@dataclass(frozen=True)
class Recipe:
    """Sizes of batches, numbers of samples and learning rates of all stages."""

    text_batch: int = 64
    text_samples: int = 128_000
    twin_samples: int = 12_800
    text_lr: float = 1e-3
    autoencoder_batch: int = 8
    crop: int = 64  # pixels
    crop_steps: int = 1_400
    whole_steps: int = 160  # after the crops, one picture of 256 px each
    whitening_pictures: int = 64  # of 256 px, whose latents are brought to mean 0 and covariance 1
    latent_noise: float = 0.05  # added to latents in training; their own deviation is about 1
    latent_penalty: float = 1e-3  # on the mean square, in place of the KL term
    denoiser: tuple[DenoiserStage, ...] = (
        DenoiserStage("denoiser-128px", 128, 160_000, 64, 16_384, warm_up=100),
        DenoiserStage("denoiser-256px", 256, 30_112, 32, 8_192),
        DenoiserStage("denoiser-cool-down", 256, 38_400, 32, 8_192, cool_down=True),
        DenoiserStage("denoiser-layouts", 256, 56_000, 32, 8_192, warm_up=100, cool_down=True, noisy_share=0.7),
        DenoiserStage(
            "denoiser-apart", 256, 32_000, 32, 8_192, warm_up=100, cool_down=True, noisy_share=0.7, apart_share=0.6
        ),
        DenoiserStage(
            "denoiser-outlines", 256, 25_600, 32, 8_192, warm_up=100, cool_down=True, noisy_share=0.3, apart_share=0.6
        ),
        # until the colours of held-out pairs go wrong in fewer than 60 % of the pictures, and no further
        DenoiserStage(
            "denoiser-colours", 256, 25_600, 32, 8_192, warm_up=100, cool_down=True, noisy_share=0.7, apart_share=0.8
        ),
    )
    matrix_lr: float = 0.01  # Muon, for everything of two dimensions or more
    vector_lr: float = 1e-3  # AdamW, for the rest
    ema: float = 0.998
    min_snr: float = 5.0  # weight min(SNR, min_snr) / SNR (Hang et al. 2023) ...
    noisy_weight: float = 0.05  # ... plus noisy_weight / SNR: where noise rules, the ground's brightness is decided
    empty_share: float = 0.1  # prompts replaced by the empty one, for classifier-free guidance
    drop_ends: float = 0.5  # share of samples whose end rows (end token and padding) are hidden
    drop_words: float = 0.3  # share of samples whose word rows are hidden, each with probability 1/2
    seed: int = 0

    def generator(self, stream: Stream, *place: int) -> np.random.Generator:
        """Return the generator of one place in a stream, such as a step: resuming draws what was never drawn."""
        return np.random.default_rng([self.seed, stream, *place])


CPU = Recipe()
GPU = Recipe(
    text_samples=400_000,
    autoencoder_batch=32,
    crop_steps=10_000,
    whole_steps=2_000,
    denoiser=(
        DenoiserStage("denoiser-128px", 128, 1_500_000, 256, 65_536, warm_up=100),
        DenoiserStage("denoiser-256px", 256, 500_000, 128, 32_768),
        DenoiserStage("denoiser-cool-down", 256, 500_000, 128, 32_768, cool_down=True),
    ),
    ema=0.9995,
)
TIERS = {"cpu": CPU, "gpu": GPU}
