"""Token merging in Forge Neo's own network, which adds to its residual stream in place."""

import inspect
import sys
import textwrap

import pytest
import torch

from tests.hosts.webui import host
from tome_core.speed import SpeedConfig
from tome_core.speed.doors.patcher import find_family, patch_speed

pytestmark = pytest.mark.skipif(host.missing() is not None, reason=str(host.missing()))

FORMS = [
    {},
    {"parts": ("attention", "cross_attention", "mlp"), "levels": (1, 2), "mlp_ratio": 0.25},
    {"parts": "block"},
    {"parts": "block", "levels": (1, 2, 3), "matching": "window"},
    {"parts": "stack", "levels": (1, 2)},
    {"metric": "block", "parts": ("attention", "mlp"), "mlp_ratio": 0.25},
    {"metric": "block", "parts": "block"},
    {"kv_ratio": 0.75, "start_percent": 0.3},
    {"kv_downsample": 2, "ratio": 0},
    {"proportional": True, "refresh": 2, "metric": "latent", "seed": 3},
]
every_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())) or "default")


@pytest.fixture(scope="module")
def model():
    return host.new_model()


@pytest.fixture
def out_of_place(model, monkeypatch):
    """Return a function after which the host's blocks add out of place."""

    def change():
        block = next(m for m in model.model.diffusion_model.modules() if type(m).__name__ == "BasicTransformerBlock")
        source = textwrap.dedent(inspect.getsource(type(block)._forward))
        changed = source.replace("x += n", "x = x + n").replace("x += x_skip", "x = x + x_skip")
        assert changed.count("x = x + n") == 2
        names: dict = {}
        exec(changed, vars(sys.modules[type(block).__module__]), names)
        monkeypatch.setattr(type(block), "_forward", names["_forward"])

    return change


@every_form
def test_a_form_gives_what_it_gives_in_the_same_network_out_of_place(model, out_of_place, form):
    clone, report = patch_speed(model, SpeedConfig(**form))
    got = host.sample(clone)
    assert report.merged_calls > 0
    out_of_place()
    reference, _ = patch_speed(model, SpeedConfig(**form))
    assert torch.equal(got, host.sample(reference))


@every_form
def test_a_run_leaves_nothing_behind(model, form, traces):
    plain, before = host.sample(model), traces(model.model.diffusion_model)
    clone, _ = patch_speed(model, SpeedConfig(**form))
    assert not torch.equal(host.sample(clone), plain)
    assert traces(model.model.diffusion_model) == before
    assert torch.equal(host.sample(model), plain)


def test_the_neutral_config_leaves_the_slot_empty_and_the_picture_as_it_is(model):
    clone, _ = patch_speed(model, SpeedConfig(ratio=0))
    assert host.SLOT not in clone.model_options
    assert torch.equal(host.sample(clone), host.sample(model))


def test_the_family_is_known_by_the_layers(model):
    assert find_family(model) == "sd1"
