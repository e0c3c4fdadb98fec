"""The bound picture in ComfyUI beside the diffusers door's, from the same noise and by the same sampler."""

import pytest
import torch

from tests.hosts.comfyui import host as comfyui

if comfyui.missing():
    pytest.skip(comfyui.missing() or "", allow_module_level=True)

from tests.hosts.comfyui.bound import bind, demo, encode
from tests.hosts.comfyui.host import sample
from tome_core.binding import BindingConfig, apply_binding
from tome_core.demo import load_demo

STEPS, CFG = 10, 3.0  # with ten, the steps of both hosts are whole timesteps
PROMPTS = ("a red circle and a blue square", "a green star and a purple cross")


def psnr(image, other):
    """Return dB of two images of 0 to 1."""
    return float(-10 * (image - other).square().mean().log10())


@pytest.mark.usefixtures("diffusers_door")
@pytest.mark.parametrize("norm", ["none", "noun"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_picture_is_the_diffusers_doors(prompt, norm):
    from diffusers import EulerDiscreteScheduler

    model, clip, vae = demo()
    noise = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    sigma = float(model.get_model_object("model_sampling").sigma_max)
    same_noise = noise * (1 + sigma**2) ** 0.5 / sigma  # ComfyUI begins with the noise of a clean picture of 0
    pipeline = load_demo()
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config, timestep_spacing="linspace")
    with apply_binding(pipeline, BindingConfig(norm=norm)):
        theirs = pipeline(prompt, latents=same_noise, num_inference_steps=STEPS, guidance_scale=CFG, output_type="pt")
    sigmas = pipeline.scheduler.sigmas.clone()
    given = {"steps": STEPS, "cfg": CFG, "noise": noise, "sigmas": sigmas}
    positive, negative = bind(clip, prompt, norm=norm).conditioning, encode(clip, "")
    with torch.inference_mode():
        latent = sample(model, positive=positive, negative=negative, **given)
        ours = vae.decode(latent).movedim(-1, 1)
        plain = vae.decode(sample(model, positive=encode(clip, prompt), negative=negative, **given)).movedim(-1, 1)
    assert psnr(ours, plain) < 35, "binding must show in this picture"
    found = psnr(ours, theirs.images)
    print(f"{prompt}, {norm}: {found:.1f} dB")
    assert found >= 40
