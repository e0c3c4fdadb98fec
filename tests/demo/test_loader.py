import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tome_core.demo import CHECKPOINT, DEMO_PROMPTS, load_demo, untaught_words
from tome_core.demo.architecture import LATENT_SCALE, to_unit
from tome_core.metrics import psnr
from training.demo.scene import HELD_OUT_PAIRS, random_scene, render


@pytest.fixture(scope="module")
def pipeline():
    return load_demo()


def test_the_checkpoint_has_stable_diffusions_keys_in_half_precision_and_is_small():
    tensors = load_file(CHECKPOINT)
    prefixes = {".".join(name.split(".")[:2]) for name in tensors}
    assert {"model.diffusion_model", "cond_stage_model.transformer", "first_stage_model.encoder"} <= prefixes
    assert {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} == {torch.float16}
    assert CHECKPOINT.stat().st_size < 40e6


def test_the_unet_has_the_sixteen_transformer_blocks_of_stable_diffusion_15(pipeline):
    blocks = [m for m in pipeline.unet.modules() if type(m).__name__ == "BasicTransformerBlock"]
    assert len(blocks) == 16
    assert 8e6 < sum(p.numel() for p in pipeline.unet.parameters()) < 10e6


def test_latents_have_unit_deviation_and_come_back_as_the_picture(pipeline):
    rng = np.random.default_rng(11)
    x = to_unit(np.stack([render(random_scene(rng), 256) for _ in range(6)]))
    with torch.no_grad():
        latents = pipeline.vae.encode(x).latent_dist.mean
        y = pipeline.vae.decode(latents).sample
    assert 0.7 < (latents * LATENT_SCALE).std() < 1.3
    assert psnr(y, x, peak=2).min() > 30


def test_the_demo_prompts_use_taught_words_and_their_pair_is_held_out():
    assert all(untaught_words(prompt) == [] for prompt in DEMO_PROMPTS)
    words = [prompt.split() for prompt in DEMO_PROMPTS if " and " in prompt]  # a red circle and a blue square
    pairs = [((w[1], w[2]), (w[5], w[6])) for w in words]
    assert len(pairs) == 1
    assert sum(pair in HELD_OUT_PAIRS or pair[::-1] in HELD_OUT_PAIRS for pair in pairs) == 1
