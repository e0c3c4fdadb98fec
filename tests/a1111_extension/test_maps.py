"""Maps of a job's prompts, from the step that binds them to the sheet in the gallery."""

import pytest
import torch
from PIL import Image

from tests.a1111_extension.fake import prompts as host
from tests.a1111_extension.fake.prompts import Model, encode, new_job, params
from tests.binding.fake_webui import Encoder
from tests.hosts.fake import forge
from tome_core.binding import BindingConfig

TEXTS = ["a red circle and a blue square", "a green star AND a red circle"]


@pytest.fixture(scope="module")
def extension():
    with host.installed():
        from a1111_extension import bound_prompts, maps

        yield bound_prompts, maps


def pictures(count):
    return [Image.new("RGB", (64, 48), (40 * number, 0, 0)) for number in range(count)]


@torch.no_grad()
def draw(extension, network, strength=1.0, texts=TEXTS, attach=True):
    """Return the maps of a job after two steps in which prompts and empty prompts run in one call."""
    bound, maps = extension
    model = Model(**{"": Encoder("g")})
    job, cond = new_job(model, texts), encode(model, texts, 10)
    prompts = bound.BoundPrompts(BindingConfig(strength=strength))
    shown = maps.PromptMaps(prompts)
    prompts.prepare(job, cond)
    if attach:
        shown.attach(network)
    for step in range(2):
        given = params(job, cond, step, (12, 16))
        prompts.apply(given)
        text = given.text_cond
        context = torch.cat([text, torch.zeros_like(text[: len(texts)])])
        x = torch.randn(len(context), 4, 12, 16, generator=torch.Generator().manual_seed(step))
        network(x, torch.full((len(x),), 500.0), context, None, {})
    shown.close()
    return shown


@pytest.fixture
def network():
    return forge.new_model().model.diffusion_model


@pytest.mark.parametrize("strength", [0, 1])
def test_each_picture_of_a_batch_gets_a_sheet_of_its_own_phrases(extension, network, strength, traces):
    before = traces(network)
    shown = draw(extension, network, strength)
    assert traces(network) == before
    sheets = shown.sheets(pictures(2))
    assert [sheet.size for sheet in sheets] == [(3 * 64, 48 + 14)] * 2
    assert [sheet.getpixel((5, 5)) for sheet in sheets] == [(0, 0, 0), (40, 0, 0)]
    assert shown.notes == []


def test_sheets_are_there_once(extension, network):
    shown = draw(extension, network)
    assert len(shown.sheets(pictures(2))) == 2
    assert shown.sheets(pictures(2)) == []


def test_without_groups_or_a_network_there_are_no_sheets_and_a_note(extension, network):
    for shown in (draw(extension, network, texts=["a circle"]), draw(extension, network, attach=False)):
        assert shown.sheets(pictures(1)) == []
        assert shown.notes == ["No maps: no bound prompt was seen in the network."]


def test_a_network_that_is_none_of_these_is_named(extension):
    bound, maps = extension
    shown = maps.PromptMaps(bound.BoundPrompts(BindingConfig()))
    shown.attach(torch.nn.Linear(1, 1))
    assert shown.sheets(pictures(1)) == []
    assert shown.notes == ["No maps: Linear is no UNet with cross-attention (SD 1.x, SD 2.x, SDXL)."]
