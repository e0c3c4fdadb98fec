import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tome_core.demo import load_demo
from tome_core.demo.architecture import LATENT_SCALE, to_unit
from training.demo import optimisers
from training.demo import stage as stage_module
from training.demo.autoencoder import build_autoencoder, whiten
from training.demo.recipe import DenoiserStage, Recipe
from training.demo.scene import random_scene, render
from training.demo.train import train

SHORT = Recipe(
    text_batch=4,
    text_samples=4,
    twin_samples=4,
    autoencoder_batch=1,
    crop_steps=1,
    whole_steps=1,
    whitening_pictures=2,
    denoiser=(
        DenoiserStage("denoiser-64px", 64, 1, 1, 2),
        DenoiserStage("denoiser-cool-down", 64, 2, 1, 2, cool_down=True),
    ),
)


@pytest.fixture
def threads():
    """Training takes one thread a process; give the others back to the tests that follow."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_killed_training_goes_on_to_the_same_weights_and_a_checkpoint_that_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: None
):
    monkeypatch.setattr(optimisers, "ITERATIONS", 1)  # time, and nothing that this test looks at
    (tmp_path / "straight").mkdir()
    train(0, 1, 0, "cpu", tmp_path / "straight", SHORT)

    def die_in_the_last_stage(folder: Path) -> None:
        steps = stage_module.Stage.run

        def run(stage):
            for step in steps(stage):
                if stage.name == "denoiser-cool-down" and step == 1:
                    raise KeyboardInterrupt
                yield step

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(stage_module.Stage, "run", run)
            patch.setattr(stage_module, "SAVE_EVERY", 0.0)
            train(0, 1, 0, "cpu", folder, SHORT)

    (tmp_path / "killed").mkdir()
    die_in_the_last_stage(tmp_path / "killed")
    assert not (tmp_path / "killed" / "tome-demo.safetensors").exists()
    train(0, 1, 0, "cpu", tmp_path / "killed", SHORT)

    for name in ("tome-demo.safetensors", "tome-demo-clip.safetensors"):
        straight, killed = load_file(tmp_path / "straight" / name), load_file(tmp_path / "killed" / name)
        assert straight.keys() == killed.keys()
        assert all(torch.equal(straight[key], killed[key]) for key in straight)
    took = json.loads((tmp_path / "killed" / "training.json").read_text())
    assert took["stages"]["autoencoder"]["steps"] == 2
    assert load_demo(checkpoint=tmp_path / "killed" / "tome-demo.safetensors").unet.config.in_channels == 4


@torch.no_grad()
def test_whitening_changes_the_latents_but_no_picture():
    net = build_autoencoder(seed=3).eval()
    rng = np.random.default_rng(0)
    x = to_unit(np.stack([render(random_scene(rng), 256) for _ in range(1)]))
    before = net.decode(net.encode(x).latent_dist.mean).sample
    whiten(net, Recipe(whitening_pictures=4))
    latents = net.encode(x).latent_dist
    assert abs(net.decode(latents.mean).sample - before).max() < 1e-3
    assert 0.3 < (latents.mean * LATENT_SCALE).std() < 3
    assert latents.std.min() == latents.std.max()
