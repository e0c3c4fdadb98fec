"""What a running webui's network gets of its prompts: the rows that the diffusers door gives, step by step.

WEBUI_PATH=~/webui WEBUI_PYTHON=~/webui/venv/bin/python python -m pytest tests/hosts/webui/live/test_rows.py
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler
from torch import Tensor

from a1111_extension.fields import FIELDS, shown
from tests.hosts.webui.live.server import OTHER, Server, kind, missing
from tome_core.bench.suites.suite import load_suite
from tome_core.binding import BindingConfig, apply_binding
from tome_core.demo import load_demo
from tome_core.metrics import psnr

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

SMALL = {"width": 64, "height": 64, "steps": 1}
SUMS = {"binding.ends": "off", "binding.removed": "keep"}
COLOURS = "a red circle and a blue square"
CHUNK = 77


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> Iterator[Watched]:
    base = tmp_path_factory.mktemp("rows")
    records, extension = base / "records", base / "webui" / "extensions" / "zz-watch" / "scripts"
    records.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOME_WATCH", str(records))
        server = Server(base / "webui", options="--nowebui")
        extension.mkdir(parents=True)
        shutil.copy2(Path(__file__).with_name("watch.py"), extension / "zz_watch.py")
        embeddings = base / "webui" / "embeddings"
        embeddings.mkdir(exist_ok=True)
        vectors = torch.randn(3, 96, generator=torch.Generator().manual_seed(0))
        torch.save({"string_to_param": {"*": vectors}, "name": "zorblax"}, embeddings / "zorblax.pt")
        with server:
            yield Watched(server, records)


class Watched:
    """A server, and what its network got in a job."""

    def __init__(self, server: Server, records: Path) -> None:
        self._server, self._records = server, records

    def job(self, prompt: str, settings: dict[str, Any] | None = None, **request: Any) -> dict[str, Any]:
        """Run a job that binds by these settings, without merging; return what was written down of it."""
        values = {"enabled": True, "speed_preset": "off", "binding": True, "binding_preset": "custom"}
        values |= settings or {}
        args = [values.get(field.name, shown(field, field.default)) for field in FIELDS]
        drawn = self._server.draw(*args, prompt=prompt, **SMALL | request)
        record = torch.load(max(self._records.glob("*.pt")), weights_only=True)
        assert record["kept"] and all(record["kept"]), "the host's cache was changed"
        return record | {"said": drawn.said, "images": drawn.images, "infotexts": drawn.infotexts}


def merged(own: Tensor, *groups: tuple[int, ...]) -> Tensor:
    """Return rows in which the first of each group is the sum of all of it."""
    found = own.clone()
    for group in groups:
        found[group[0]] = own[list(group)].sum(0)
    return found


def close(found: Tensor, expected: Tensor) -> bool:
    assert found.shape == expected.shape
    return bool(torch.allclose(found, expected, atol=1e-4, rtol=1e-5))


def reached(step: dict[str, Any]) -> bool:
    """Return whether every row of a step's prompts came to the network, and none of the host's own that was bound."""
    contexts = [row for context in step["contexts"] for row in context]
    length = step["text"].shape[1]
    seen = all(any(torch.equal(row[:length], text) for row in contexts) for text in step["text"])
    bound = [own for own, text in zip(step["own"], step["text"], strict=True) if not torch.equal(own, text)]
    return seen and not any(torch.equal(row[:length], own) for row in contexts for own in bound)


@pytest.mark.parametrize("suite", ["two-colours", "two-colours-apart"])
def test_rows_are_the_diffusers_doors_on_every_held_out_prompt(watched, suite):
    pipe, prompts = load_demo(), [prompt.text for prompt in load_suite(suite).parts["held-out"]]
    assert len(prompts) == 150
    worst = 0.0
    with apply_binding(pipe, BindingConfig()) as handle, torch.no_grad():
        for start in range(0, len(prompts), 10):
            own = prompts[start : start + 10]
            record = watched.job(" AND ".join(own), {"binding_preset": "paper"})
            (step,) = record["steps"]
            given = {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
            expected = pipe.encode_prompt(prompt=own, **given)[0]
            assert all(len(prompt.groups) == 2 for prompt in handle.prompts)
            assert step["text"].shape == expected.shape and reached(step)
            worst = max(worst, float((step["text"] - expected).abs().max()))
            assert not torch.allclose(step["text"], step["own"], atol=1e-2)
    print(f"{suite}: the largest difference is {worst:.1e}")
    assert worst < 1e-4


def test_and_parts_of_each_image_of_each_batch(watched):
    record = watched.job("a red circle AND a blue square :0.5", SUMS, batch_size=2, n_iter=2, steps=2)
    assert len(record["steps"]) == 4
    for step in record["steps"]:
        assert step["text"].shape[0] == 4 and reached(step)
        for own, text in zip(step["own"], step["text"], strict=True):
            assert close(text, merged(own, (3, 2)))
    assert {"Bound circle: red", "Bound square: blue"} <= set(record["said"])


def test_each_part_of_a_schedule_by_its_own_words(watched):
    record = watched.job("a [red:blue:0.5] circle and a green star", SUMS, steps=4)
    assert len({tuple(step["own"][0, 2].tolist()) for step in record["steps"]}) == 2
    for step in record["steps"]:
        assert close(step["text"][0], merged(step["own"][0], (3, 2), (7, 6))) and reached(step)
    assert {"Bound circle: red", "Bound circle: blue", "Bound star: green"} <= set(record["said"])


def test_words_that_alternate(watched):
    record = watched.job("a [red|blue] circle", SUMS, steps=4)
    for step in record["steps"]:
        assert close(step["text"][0], merged(step["own"][0], (3, 2))) and reached(step)
    assert {"Bound circle: red", "Bound circle: blue"} <= set(record["said"])


@pytest.mark.parametrize("emphasis", ["Original", "No norm", "Ignore", "None"])
def test_emphasis_counts_before_rows_are_merged(watched, emphasis):
    settings = {"override_settings": {"emphasis": emphasis}}
    record = watched.job("a (red:1.4) circle and a [blue] square", SUMS, **settings)
    (step,) = record["steps"]
    # a ( red : 1 . 4 ) circle and a [ blue ] square
    groups = ((9, 3), (15, 13)) if emphasis == "None" else ((3, 2), (7, 6))
    assert close(step["text"][0], merged(step["own"][0], *groups)) and reached(step)
    plain = watched.job("a red circle and a blue square", SUMS, **settings)["steps"][0]["own"][0]
    assert close(step["own"][0], plain) == (emphasis == "Ignore")


@pytest.mark.parametrize("wall", [" BREAK ", "." + " and" * 71 + ". "])
def test_each_chunk_ends_as_that_chunk_does_without_modifiers(watched, wall):
    (step,) = watched.job(f"a red circle{wall}a blue square", {"binding_preset": "paper"})["steps"]
    (bare,) = watched.job(f"a circle{wall}a square")["steps"]
    text, own = step["text"][0], bare["own"][0]
    first = 4 if "BREAK" in wall else 76
    assert text.shape[0] == own.shape[0] == 2 * CHUNK and reached(step)
    if "BREAK" in wall:
        assert close(text[first : CHUNK - 1], own[first - 1 : CHUNK - 2])
        assert close(text[CHUNK + 4 : 2 * CHUNK - 1], own[CHUNK + 3 : 2 * CHUNK - 2])
        assert close(text[3], step["own"][0][2:4].sum(0)) and close(text[CHUNK + 3], step["own"][0][79:81].sum(0))
    assert not close(text[:CHUNK], step["own"][0][:CHUNK]) and not close(text[CHUNK:], step["own"][0][CHUNK:])


@pytest.mark.skipif(missing() is None and kind() != "a1111", reason="Forge takes embeddings of SD 1.5's width alone")
def test_textual_inversions_move_the_rows_behind_them_and_count_as_a_word(watched):
    record = watched.job(
        "zorblax, a red circle and a blue zorblax square", SUMS | {"groups": "circle: red; square: zorblax"}
    )
    (step,) = record["steps"]
    # three vectors, a comma, a red circle and a blue, three vectors, square
    assert close(step["text"][0], merged(step["own"][0], (7, 6), (14, 11, 12, 13))) and reached(step)
    (paper,) = watched.job("zorblax, a red circle", {"binding_preset": "paper"})["steps"]
    (bare,) = watched.job("zorblax, a circle")["steps"]
    assert close(paper["text"][0, 8:76], bare["own"][0, 7:75])


def test_the_hires_pass_has_prompts_of_its_own(watched):
    hires = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "None", "hr_second_pass_steps": 2, "steps": 2}
    hires |= {"denoising_strength": 1.0, "hr_prompt": "a [green:purple:1.5] ~star~ beside a ~black cross~"}
    record = watched.job(COLOURS, SUMS, **hires)
    assert record["prompts"][0] == [COLOURS]
    first, *later = [step["text"][0] for step in record["steps"]]
    assert close(first, merged(record["steps"][0]["own"][0], (3, 2), (7, 6)))
    assert len(later) >= 2 and all(map(reached, record["steps"]))


def test_marks_of_the_hires_pass_reach_no_text_encoder(watched):
    hires = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "None", "hr_second_pass_steps": 2}
    hires |= {"denoising_strength": 1.0, "hr_prompt": "a ~[green:purple:1.5] star~ beside a cross"}
    record = watched.job(COLOURS, SUMS, **hires)
    assert record["prompts"][-1] == ["a [green:purple:1.5] star beside a cross"]
    last = record["steps"][-1]
    assert close(last["text"][0], merged(last["own"][0], (3, 2)))
    assert {"Bound star: green", "Bound star: purple"} & set(record["said"])


def test_a_refiner_that_takes_over_gets_bound_rows_where_the_host_can_encode_then(watched):
    record = watched.job(COLOURS, SUMS, refiner_checkpoint=OTHER, refiner_switch_at=0.5, steps=4)
    assert len(record["steps"]) == 4 and f"Refiner: {OTHER}" in record["infotexts"][0]
    is_bound = [close(step["text"][0], merged(step["own"][0], (3, 2), (7, 6))) for step in record["steps"]]
    assert all(map(reached, record["steps"]))
    if kind() == "a1111":
        assert all(is_bound)
    else:  # whose text encoders would push the network off the GPU
        first, last = (
            is_bound.index(False),
            [step for step, own in zip(record["steps"], is_bound, strict=True) if not own],
        )
        assert first > 0 and not any(is_bound[first:])
        assert all(close(step["text"][0], step["own"][0]) for step in last)
        assert any("From where the refiner took over" in line for line in record["said"])


REQUESTS = {
    "negative prompt of two chunks": {"negative_prompt": "and " * 80},
    "two chunks beside one": {"prompt": f"{COLOURS} BREAK a green star"},
    "without guidance": {"cfg_scale": 1},
    "some steps without the negative prompt": {"s_min_uncond": 9.0},
    "DDIM": {"sampler_name": "DDIM"},
    "Heun": {"sampler_name": "Heun"},
}
if missing() is None and kind() == "a1111":
    REQUESTS |= {
        "calls apart": {"override_settings": {"batch_cond_uncond": False}},
        "negative prompt padded": {"override_settings": {"pad_cond_uncond": True}, "negative_prompt": "and " * 80},
        "padded as before": {"override_settings": {"pad_cond_uncond_v0": True}, "negative_prompt": "and " * 80},
        "calls apart, of two lengths": {
            "override_settings": {"batch_cond_uncond": False},
            "prompt": f"{COLOURS} BREAK a green star",
        },
    }


@pytest.mark.parametrize("name", REQUESTS)
def test_the_network_gets_bound_rows_however_the_host_samples(watched, name):
    request = {"prompt": COLOURS, "steps": 4, "batch_size": 2} | REQUESTS[name]
    record = watched.job(request.pop("prompt"), SUMS, **request)
    for step in record["steps"]:
        for own, text in zip(step["own"], step["text"], strict=True):
            assert close(text[:CHUNK], merged(own, (3, 2), (7, 6))[:CHUNK])
        assert reached(step)


def test_marks_reach_no_text_encoder_and_name_the_groups(watched):
    record = watched.job("a ~red ^circle~ and a blue square", SUMS)
    (step,) = record["steps"]
    assert record["prompts"] == [[COLOURS]]
    assert close(step["text"][0], merged(step["own"][0], (3, 2)))
    assert record["said"].count("Bound circle: red") == 1 and "Bound square: blue" not in record["said"]


@pytest.mark.parametrize("settings", [{"binding_preset": "paper", "binding_strength": 0.0}, {"groups": "cat: black"}])
def test_with_nothing_to_bind_the_network_gets_the_hosts_own_rows(watched, settings):
    record = watched.job(COLOURS, settings)
    (step,) = record["steps"]
    assert torch.equal(step["text"], step["own"])
    assert any(line.startswith(("Strength 0", "Nothing bound in")) for line in record["said"])


def test_maps_change_no_pixel_and_show_each_image(watched):
    drawn = {"width": 128, "height": 128, "steps": 4, "batch_size": 2}
    for speed in ({}, {"speed_preset": "fast"}):
        plain = watched.job(COLOURS, speed | {"binding_preset": "paper"}, **drawn)
        shown_too = watched.job(COLOURS, speed | {"binding_preset": "paper", "maps": True}, **drawn)
        own = [image.tobytes() for image in plain["images"]]
        sheets = [image for image in shown_too["images"] if image.width == 3 * 128]
        assert [image.tobytes() for image in shown_too["images"]][: len(own)] == own
        assert len(sheets) == 2 and sheets[0].tobytes() != sheets[1].tobytes()
        assert not [line for line in shown_too["said"] if line.startswith(("Maps", "No maps"))]


@pytest.mark.parametrize("is_bound", [False, True], ids=["plain", "bound"])
def test_the_picture_is_the_diffusers_doors_at_equal_noise_and_sampler(watched, is_bound):
    drawn = {"width": 256, "height": 256, "steps": 10, "cfg_scale": 3, "seed": 7}
    record = watched.job(COLOURS, {"binding_preset": "paper", "binding": is_bound}, **drawn)
    pipe = load_demo()
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing="linspace")
    pipe.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(7))
    with apply_binding(pipe, BindingConfig(strength=float(is_bound))):
        own = pipe(COLOURS, latents=noise, num_inference_steps=10, guidance_scale=3.0).images[0]
    pictures = [torch.from_numpy(np.array(x))[None] / 255 for x in (record["images"][0], own)]
    found = float(psnr(*pictures))
    print(f"{'bound' if is_bound else 'plain'}: {found:.1f} dB")
    assert found > 40
