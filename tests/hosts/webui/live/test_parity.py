"""The same picture, by a webui and by the diffusers door: from the same noise, by the same sampler."""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler

from tests.hosts.webui.live.server import kind, missing
from tome_core.binding import BindingConfig, apply_binding
from tome_core.demo import load_demo
from tome_core.metrics import psnr
from tome_core.speed import SpeedConfig, apply_speed

pytestmark = pytest.mark.skipif(
    missing() is not None or kind() != "a1111", reason="needs WEBUI_PATH to name an AUTOMATIC1111"
)
STEPS, GUIDANCE, SIDE = 20, 5.0, 256
PROMPTS = ["a red circle and a blue square", "a green star and a black cross", "a purple triangle"]
ARGS = {
    "plain": (False,),
    "merged": (True, "custom", 1.0, "same", False, "paper", 1.0, "", False, 0.5, "1,2", "block"),
    "bound": (True, "off", 1.0, "same", True),
    "bound and merged": (True, "custom", 1.0, "same", True, "paper", 1.0, "", False, 0.5, "1", "attention"),
}
SPEED = {"merged": SpeedConfig(levels=(1, 2), parts="block"), "bound and merged": SpeedConfig()}
BOUND = ("bound", "bound and merged")


@pytest.fixture(scope="module")
def pipeline():
    pipe = load_demo()
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing="linspace")
    return pipe


def by_diffusers(pipeline, prompt, form):
    noise = torch.randn(1, 4, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(1))
    with ExitStack() as stack:
        if form in SPEED:
            stack.enter_context(apply_speed(pipeline, SPEED[form]))
        if form in BOUND:
            stack.enter_context(apply_binding(pipeline, BindingConfig()))
        settings = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "width": SIDE, "height": SIDE}
        return pipeline(prompt, latents=noise, **settings).images[0]


@pytest.mark.parametrize("form", ARGS)
def test_the_pictures_are_those_of_the_diffusers_door(server, pipeline, form):
    request, found = {"steps": STEPS, "cfg_scale": GUIDANCE, "width": SIDE, "height": SIDE}, []
    for prompt in PROMPTS:
        pair = server.draw(*ARGS[form], prompt=prompt, **request).images[0], by_diffusers(pipeline, prompt, form)
        pictures = [torch.from_numpy(np.array(image.convert("RGB"))).float()[None] for image in pair]
        found.append(psnr(*pictures, peak=255).item())
    print(f"{form}: {', '.join(f'{nearness:.1f}' for nearness in found)} dB")
    # which tokens merge is a choice: one that is close falls the other way by the rounding of either host, and where a
    # picture hangs on it the pictures part. So of merged ones most must be the same.
    assert (median(found) if form in SPEED else min(found)) >= 40
