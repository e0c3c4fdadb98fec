"""The binding nodes in a running ComfyUI: what they give, what they show, and that plain prompts stay as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.hosts.comfyui.live.graphs import SAMPLER, drawing, node, picture, speed
from tests.hosts.comfyui.live.server import Server

Draw = Callable[[dict[str, Any]], Any]
TEXT, MAPS, SHOW = "2", "5", "30"
COLOURS = "a red circle and a blue square"


def bound(
    kind: str = "demo", *patches: dict[str, Any], text: str = COLOURS, steps: int = 3, **settings: Any
) -> dict[str, Any]:
    """Return a prompt whose positive text a bind node encodes."""
    graph = drawing(kind, *patches, steps=steps)
    given = {"preset": "gentle", "strength": 1.0} | settings
    graph[TEXT] = node("ToMeBindPrompt", clip=["1", 1], text=text, **given)
    return graph


def with_maps(graph: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """Return a prompt with its picture, and with the maps, which are saved as pictures as well."""
    graph = picture(graph)
    shown = node("ToMeShowMaps", maps=[MAPS, 1], image=["8", 0], latent=[SAMPLER, 0], **settings)
    masks = node("MaskToImage", mask=[SHOW, 1])
    saved = node("SaveImage", images=["31", 0], filename_prefix="masks")
    sheets = node("SaveImage", images=[SHOW, 0], filename_prefix="sheets")
    return {**graph, SHOW: shown, "31": masks, "32": saved, "33": sheets}


def told(run: Any, name: str) -> str:
    texts = [text for node_id, text in run.texts if node_id == name]
    assert texts, run.texts
    return texts[-1]


def pictures(server: Server, run: Any, name: str) -> list[Image.Image]:
    return [Image.open(server.base / "output" / x["subfolder"] / x["filename"]) for x in run.outputs[name]["images"]]


def test_the_parse_is_told_on_the_node_and_the_maps_come_out_as_pictures_and_masks(server: Server):
    run = server.run(with_maps(bound("demo", node("ToMeAttentionMaps", preview=True))))
    assert not run.error, run.error
    assert told(run, TEXT).splitlines() == ["circle: red", "square: blue"]
    assert told(run, SHOW) == "1: circle; 2: square"
    masks = pictures(server, run, "32")
    assert [mask.size for mask in masks] == [(256, 256)] * 2
    assert all(np.ptp(np.asarray(mask)) == 255 for mask in masks)
    (sheet,) = pictures(server, run, "33")
    assert sheet.width == 3 * 256 and sheet.height > 256
    (own,) = pictures(server, run, "9")
    difference = np.asarray(sheet)[:256, :256].astype(int) - np.asarray(own)
    assert np.abs(difference).max() <= 1  # ComfyUI rounds down


@pytest.mark.parametrize("preset", ["off", "gentle", "balanced", "fast"])
def test_maps_leave_the_latent_as_it_is_behind_every_preset_of_speed(server: Server, draw: Draw, preset: str):
    merging = speed(preset)
    plain = draw(bound("demo", merging, steps=6))
    watched = bound("demo", merging, node("ToMeAttentionMaps", preview=False), steps=6)
    assert torch.equal(draw(watched), plain)
    graph = picture(watched)
    run = server.run({**graph, SHOW: node("ToMeShowMaps", maps=["50", 1], image=["8", 0])})
    assert not run.error, run.error
    assert told(run, SHOW) == "1: circle; 2: square"


def test_two_equal_map_nodes_in_one_prompt_have_maps_of_their_own(server: Server):
    first = with_maps(bound("demo", node("ToMeAttentionMaps")))
    second = {"40": node("ToMeAttentionMaps", model=["1", 0])}
    second["41"] = {**first[SAMPLER], "inputs": {**first[SAMPLER]["inputs"], "model": ["40", 0], "seed": 5}}
    second["42"] = node("VAEDecode", samples=["41", 0], vae=["1", 2])
    second["43"] = node("ToMeShowMaps", maps=["40", 1], image=["42", 0])
    del first[SHOW]["inputs"]["latent"]
    run = server.run({**first, **second})
    assert not run.error, run.error
    assert told(run, SHOW) == told(run, "43") == "1: circle; 2: square"


def test_one_phrase_alone_gives_one_mask_of_two_values(server: Server):
    run = server.run(with_maps(bound("demo", node("ToMeAttentionMaps")), phrase=2, threshold=0.5))
    assert not run.error, run.error
    (mask,) = pictures(server, run, "32")
    assert set(np.unique(np.asarray(mask))) == {0, 255}


def test_maps_leave_the_image_as_it_is(draw: Draw):
    assert torch.equal(draw(bound("demo", node("ToMeAttentionMaps"))), draw(bound("demo")))


@pytest.mark.parametrize("kind", ["demo", "sdxl"])
def test_strength_0_and_a_prompt_without_groups_draw_as_clip_text_encode_does(
    draw: Draw, plain_latents: Any, kind: str
):
    neutral, plain = bound(kind, strength=0.0), bound(kind, text="a circle and a square")
    assert torch.equal(draw(neutral), plain_latents[kind])
    own = drawing(kind)
    own[TEXT]["inputs"]["text"] = "a circle and a square"
    assert torch.equal(draw(plain), draw(own))
    assert not torch.equal(draw(bound(kind)), plain_latents[kind])


def test_a_model_without_cross_attention_passes_through_and_the_show_node_says_why(server: Server):
    run = server.run(with_maps(bound("flux", node("ToMeAttentionMaps"), strength=0.0)))
    assert not run.error, run.error
    assert "the model passes through untouched: model must be a UNet with cross-attention" in told(run, MAPS)
    assert told(run, SHOW).startswith("No maps: model must be a UNet")


@pytest.mark.parametrize("text", ["a ~cat~ and", "a ~^red ^cat~"])
def test_a_mistake_in_the_markup_stops_before_any_work(server: Server, text: str):
    with pytest.raises(OSError, match="400"):
        server.run(bound("demo", text=text))


def test_bound_and_mapped_runs_that_end_fail_or_stop_leave_no_trace(server: Server, draw: Draw, plain_latents: Any):
    maps, merged = node("ToMeAttentionMaps"), node("ToMeSpeed", preset="fast", strength=1.0)
    for number in range(12):
        patches = [[maps], [maps, merged], [merged, maps]][number % 3]
        graph = bound("demo", *patches, strength=0.5 + number / 24)
        graph[SAMPLER]["inputs"]["seed"] = number
        if number == 4:
            failing = bound("demo", *patches, node("TestFailure"))
            failing[SAMPLER]["inputs"]["seed"] = number
            assert "planned failure" in server.run(failing).error
        elif number == 7:
            graph[SAMPLER]["inputs"]["steps"] = 30
            assert server.run(graph, interrupt_after=2).error == "interrupted"
        else:
            assert torch.isfinite(draw(graph)).all()
    last = drawing("demo", seed=0)
    last["99"] = node("SaveLatent", samples=[SAMPLER, 0], filename_prefix="latents/again")
    assert torch.equal(draw(last), plain_latents["demo"])
