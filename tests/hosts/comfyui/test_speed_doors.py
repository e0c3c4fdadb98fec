"""The demo model in ComfyUI's own network and in diffusers': one merging, whichever door it came by.

It needs diffusers in ComfyUI's Python.
"""

import pytest
import torch

from tome_core.demo import load_demo
from tome_core.speed import SpeedConfig, apply_speed
from tome_core.speed.doors.patcher import patch_speed
from tome_core.speed.plans import run


@pytest.fixture
def plans(monkeypatch):
    """Collect the slots of every plan that is made."""
    made, make_plan = [], run.make_plan

    def collect(*args):
        plan = make_plan(*args)
        made.append(plan.assignment)
        return plan

    monkeypatch.setattr(run, "make_plan", collect)
    return made


@pytest.mark.usefixtures("diffusers_door")
@pytest.mark.parametrize(
    "form",
    [
        {},
        {"metric": "latent", "parts": ("attention", "cross_attention", "mlp")},
        {"metric": "latent", "parts": "block", "levels": (1, 2)},
        {"metric": "block", "parts": "stack", "proportional": True},
        {"kv_ratio": 0.5, "ratio": 0.25, "proportional": True},
        {"kv_downsample": 2, "seed": 7},
    ],
)
def test_plans_and_predictions_are_the_same_in_both_doors(comfyui, plans, form):
    random = torch.Generator().manual_seed(0)
    x, text = torch.randn(2, 4, 32, 32, generator=random), torch.randn(2, 77, 96, generator=random)
    clone, report = patch_speed(comfyui.demo_model(), SpeedConfig(**form))
    sampling = clone.model.model_sampling
    sigma = sampling.sigmas[500].expand(2)
    options = {"wrappers": clone.wrappers}
    with torch.inference_mode():
        clean = clone.model.apply_model(x * sigma[0], sigma, c_crossattn=text, transformer_options=options)
    here, plans[:] = list(plans), []
    scaled = x * sigma[0] / (sigma[0] ** 2 + 1).sqrt()
    unet = load_demo().unet
    with torch.inference_mode(), apply_speed(unet, SpeedConfig(**form)) as handle:
        noise = unet(scaled, torch.tensor(500), text).sample
    assert here and len(here) == len(plans)
    assert all(torch.equal(a, b) for a, b in zip(here, plans, strict=True))
    assert torch.allclose(clean, x * sigma[0] - sigma[0] * noise, atol=1e-3)
    assert [level.kept for level in report.levels] == [level.kept for level in handle.report.levels]
    grids = report.levels[0].kept
    assert all(report.levels[0].work_saved(grid) == handle.report.levels[0].work_saved(grid) > 0 for grid in grids)
