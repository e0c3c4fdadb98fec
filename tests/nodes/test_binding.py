"""The binding nodes on the fake host: what they say, and that no prompt and no picture is lost to them."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.attention_maps.fake_sampling import bound, entry, new_model, run
from tests.binding.fake_clip import new_clip, tokenizer
from tome_core.presets import BINDING_PRESETS

PROMPT = "a red circle and a blue square"


@pytest.fixture
def bind(nodes: Any) -> Any:
    return importlib.import_module(f"{nodes.__name__}.binding").ToMeBindPrompt


@pytest.fixture
def maps(nodes: Any) -> Any:
    return importlib.import_module(f"{nodes.__name__}.maps")


class Clip:
    """ComfyUI's CLIP, as far as a node uses it."""

    def __init__(self) -> None:
        self._host = new_clip("l")
        self.encode_from_tokens_scheduled = self._host.encode
        spelled = lambda pairs: [(pair, tokenizer().convert_ids_to_tokens(pair[0])) for pair in pairs]  # noqa: E731
        self.tokenizer = SimpleNamespace(untokenize=spelled)
        self.cond_stage_model = SimpleNamespace()

    def tokenize(self, text: str, return_word_ids: bool = False) -> Any:
        return self._host.tokenize(text, return_word_ids)


def rows(answer: Any) -> torch.Tensor:
    return answer.args[0][0][0]


def sent(nodes: Any) -> list[str]:
    return [text for text, *_ in importlib.import_module(f"{nodes.__name__}.node_text").PromptServer.instance.sent]


@pytest.mark.parametrize("preset", BINDING_PRESETS)
def test_every_preset_binds_and_the_node_shows_the_groups(bind: Any, preset: str):
    clip = Clip()
    answer = bind.execute(clip, PROMPT, preset, 1.0)
    assert not torch.equal(rows(answer), clip.encode_from_tokens_scheduled(clip.tokenize(PROMPT))[0][0])
    assert answer.args[1] == "circle: red\nsquare: blue"
    assert answer.ui["text"] == (answer.args[1],)


def test_listed_groups_take_the_place_of_the_rules(bind: Any):
    answer = bind.execute(Clip(), PROMPT, "paper", 1.0, "square: blue")
    assert answer.args[1] == "square: blue"


@pytest.mark.parametrize(
    ("text", "groups", "rule"),
    [
        ("a ~cat~", "", "group must hold a thing and words that describe it"),
        (PROMPT, "dog: red", "groups must name words of the prompt, got 'dog'"),
    ],
)
def test_a_mistake_stops_the_prompt_before_work_and_by_wire_loses_no_image(
    bind: Any, text: str, groups: str, rule: str
):
    assert rule in bind.validate_inputs(text=text, groups=groups, strength=1.0)
    assert bind.validate_inputs(text=text, groups=groups, strength=0) is True
    clip = Clip()
    answer = bind.execute(clip, text, "paper", 1.0, groups)
    plain = text.replace("~", "")
    assert torch.equal(rows(answer), clip.encode_from_tokens_scheduled(clip.tokenize(plain))[0][0])
    assert answer.args[1].startswith(f"Nothing bound: {rule}")


@pytest.mark.parametrize("strength", [-0.1, 1.01, float("nan"), float("inf")])
def test_a_strength_out_of_bounds_stops_the_prompt_before_work(bind: Any, strength: float):
    assert bind.validate_inputs(text=PROMPT, strength=strength) == (
        f"strength must be a number from 0 to 1, got {strength}"
    )


@pytest.mark.parametrize("given", [{}, {"text": None}, {"text": PROMPT}, {"text": PROMPT, "groups": None}])
def test_what_comes_by_wire_is_not_judged(bind: Any, given: dict[str, Any]):
    assert bind.validate_inputs(**given) is True


def test_a_checkpoint_without_text_encoder_is_named(bind: Any):
    with pytest.raises(RuntimeError, match=r"^clip must be a text encoder, got None"):
        bind.execute(None, PROMPT, "paper", 1.0)


def test_maps_come_out_as_sheets_and_masks_of_the_pictures_size(nodes: Any, maps: Any):
    patched, shelf = maps.ToMeAttentionMaps.execute(new_model(), preview=False).args
    latent = run(patched, [entry(bound())], batch=2)
    image = torch.rand(2, 48, 40, 3, generator=torch.Generator().manual_seed(0))
    answer = maps.ToMeShowMaps.execute(shelf, image, {"samples": latent})
    sheets, masks, report = answer.args
    assert sheets.shape[0] == 2 and sheets.shape[2] == 3 * 40 and sheets.shape[1] > 48
    assert masks.shape == (4, 48, 40) and masks.min() == 0 and masks.max() == 1
    assert report == "1: circle; 2: square"
    assert answer.ui["images"] == [sheets] and answer.ui["text"] == (report,)
    assert sent(nodes)[-2:] == ["Maps of 2 phrases in this run: 1: circle; 2: square.", report]


def test_without_a_run_the_picture_passes_through_with_a_black_mask(maps: Any):
    _, shelf = maps.ToMeAttentionMaps.execute(new_model()).args
    image = torch.rand(1, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    sheets, masks, report = maps.ToMeShowMaps.execute(shelf, image).args
    assert torch.equal(sheets, image) and torch.equal(masks, torch.zeros(1, 16, 16))
    assert report.startswith("No maps: no sampler has run on this model.")


def test_both_nodes_tell_of_a_run_without_groups_what_to_do(nodes: Any, maps: Any):
    patched, shelf = maps.ToMeAttentionMaps.execute(new_model(), preview=False).args
    run(patched, [entry()])
    _, masks, report = maps.ToMeShowMaps.execute(shelf, torch.zeros(1, 16, 16, 3)).args
    assert masks.abs().max() == 0
    assert "no groups. Bind " in report and sent(nodes)[-2:] == [report, report]


def test_a_phrase_that_is_not_there_gives_black_masks_and_says_so(maps: Any):
    patched, shelf = maps.ToMeAttentionMaps.execute(new_model(), preview=False).args
    latent = run(patched, [entry(bound())])
    image = torch.zeros(1, 16, 16, 3)
    _, masks, report = maps.ToMeShowMaps.execute(shelf, image, {"samples": latent}, phrase=3).args
    assert masks.abs().max() == 0
    assert "Masks are black: phrase must be 0 for all, or from 1 to 2, got 3" in report


def test_an_unsupported_model_passes_through(maps: Any):
    model = new_model()
    model.model = SimpleNamespace(diffusion_model=torch.nn.Linear(1, 1))
    answer = maps.ToMeAttentionMaps.execute(model)
    same, shelf = answer.args
    assert same is model
    assert answer.ui["text"][0].startswith("No maps, the model passes through untouched: model must be a UNet")
    assert shelf.maps()[1][0].startswith("No maps: model must be a UNet")
