"""A running webui, through its API: what its users do with the accordion.

WEBUI_PATH=~/webui WEBUI_PYTHON=~/webui/venv/bin/python python -m pytest tests/hosts/webui/live
"""

from __future__ import annotations

import re
import threading
import time

import pytest
from PIL import Image

from tests.hosts.webui.live.server import LORA, MODEL, OTHER, Server, encoded, kind, missing

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

FAST = (True, "custom", 1.0, "same", False, "paper", 1.0, "", False, 0.5, "1,2", "block")
LONG = ", ".join(["a red circle and a blue square", *["a picture of a green star"] * 14])


def merged(drawn):
    """Return the counts of model calls: how many merged, and how many there were, for each pass."""
    found = (re.search(r"(\d+) of (\d+) model calls", line) for line in drawn.said)
    return [(int(counts[1]), int(counts[2])) for counts in found if counts]


@pytest.fixture
def plain(server):
    return lambda **request: server.draw(False, **request)


def test_off_is_as_without_the_extension(server, tmp_path):
    off, unnamed, again = server.draw(False), server.draw(), server.draw(False, batch_size=3, width=264, height=288)
    with Server(tmp_path / "bare", has_suite=False, options="--nowebui") as bare:
        assert bare.draw().bytes == off.bytes == unnamed.bytes
        assert bare.draw().infotexts == off.infotexts
        assert bare.draw(batch_size=3, width=264, height=288).bytes == again.bytes


def test_on_it_merges_in_every_call_says_so_and_the_next_job_is_as_before(server, plain):
    before, on = plain(), server.draw(*FAST)
    assert merged(on) == [(6, 6)]
    assert any("1024 tokens: block ran on 512" in line for line in on.said)
    assert on.bytes != before.bytes and on.bytes == server.draw(*FAST).bytes
    assert plain().bytes == before.bytes
    assert "ToMe preset: custom" in on.infotexts[0] and "ToMe parts: block" in on.infotexts[0]
    assert "ToMe" not in before.infotexts[0]


@pytest.mark.parametrize(
    "request_",
    [
        {"batch_size": 3},
        {"batch_size": 2, "n_iter": 2},
        {"width": 264, "height": 288},
        {"sampler_name": "DDIM"},
        {"sampler_name": "Heun"},
        {"sampler_name": "DPM++ 2M SDE"},
        {"cfg_scale": 1},
        {"prompt": LONG},
        {"prompt": "a red circle AND a blue square"},
        {"prompt": "a [red:blue:0.3] circle"},
        {"s_min_uncond": 4.0, "steps": 10},
    ],
    ids=lambda request_: " ".join(f"{key}={str(value)[:20]}" for key, value in request_.items()),
)
def test_whatever_is_drawn_merges_and_binds_and_leaves_nothing(server, plain, request_):
    before = plain(**request_)
    on = server.draw(True, "fast", 1.0, "same", True, **request_)
    assert len(on.images) == len(before.images) and on.bytes != before.bytes
    assert merged(on) and all(some > 0 for some, _ in merged(on))
    assert not any("gave up" in line for line in on.said)
    assert plain(**request_).bytes == before.bytes


def test_the_same_picture_comes_alone_and_in_a_batch(server):
    alone = server.draw(*FAST, seed=2).images[0]
    beside = server.draw(*FAST, seed=1, batch_size=2).images[-1]
    differences = [abs(a - b) for a, b in zip(alone.tobytes(), beside.tobytes(), strict=True)]
    assert max(differences) <= 2


@pytest.mark.skipif(missing() is None and kind() != "a1111", reason="a setting of A1111 alone")
def test_prompt_and_negative_prompt_in_calls_of_their_own(server):
    settings = {"batch_cond_uncond": False}
    together, apart = server.draw(*FAST), server.draw(*FAST, override_settings=settings)
    assert merged(apart) == [(12, 12)]
    differences = [abs(a - b) for a, b in zip(together.bytes[0], apart.bytes[0], strict=True)]
    assert max(differences) <= 2


def test_the_hires_pass_has_its_own_preset(server):
    hires = {
        "enable_hr": True,
        "hr_scale": 2,
        "hr_upscaler": "None",
        "hr_second_pass_steps": 4,
        "denoising_strength": 0.7,
    }
    drawn = server.draw(True, "off", 1.0, "custom", *FAST[4:], **hires)
    assert drawn.images[0].size == (512, 512)
    assert any("4096 tokens: block ran on 2048" in line for line in drawn.said)
    assert not any(", 1024 tokens: block ran on 512" in line and "Level 1" in line for line in drawn.said)
    assert "ToMe hires preset: custom" in drawn.infotexts[0]
    both = server.draw(*FAST, **hires)
    assert len(merged(both)) == 2


def test_the_hires_pass_with_another_checkpoint(server):
    hires = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "None", "hr_second_pass_steps": 4}
    hires |= {"denoising_strength": 0.7, "hr_checkpoint_name": OTHER}
    assert len(merged(server.draw(*FAST, **hires))) == 2


def test_a_refiner_that_takes_over(server):
    drawn = server.draw(*FAST, refiner_checkpoint=OTHER, refiner_switch_at=0.5, steps=8)
    assert sum(some for some, _ in merged(drawn)) >= 7 and not any("gave up" in line for line in drawn.said)


def test_another_model_for_the_next_job(server):
    other = {"override_settings": {"sd_model_checkpoint": OTHER}}
    first, second = server.draw(*FAST), server.draw(*FAST, **other)
    assert merged(first) == merged(second) == [(6, 6)] and first.bytes == second.bytes
    assert server.draw(False).bytes == server.draw(False, **other).bytes


@pytest.mark.parametrize("is_inpaint", [False, True], ids=["img2img", "inpaint"])
def test_a_picture_to_begin_with(server, plain, is_inpaint):
    picture = plain().images[0]
    request = {"path": "img2img", "init_images": [encoded(picture)], "denoising_strength": 0.6, "steps": 10}
    if is_inpaint:
        mask = Image.new("L", picture.size, 0)
        mask.paste(255, (64, 64, 192, 192))
        request |= {"mask": encoded(mask), "inpainting_fill": 1, "inpaint_full_res": False}
    before = [server.draw(False, **request).bytes for _ in range(2)]
    on = server.draw(*FAST, **request)
    assert merged(on) and merged(on)[0][0] > 0 and on.bytes != before[0]
    if before[0] == before[1]:  # Neo's own inpainting is not the same twice
        assert server.draw(False, **request).bytes == before[0]


def test_the_hosts_own_merging_leaves_nothing_to_merge_twice(server):
    settings = {"override_settings": {"token_merging_ratio": 0.5}}
    server.post("/sdapi/v1/options", {"token_merging_ratio": 0})  # without a saved setting the override would stay
    alone, both = server.draw(False, **settings), server.draw(*FAST, **settings)
    assert both.bytes == alone.bytes
    assert any("the webui's own token merging is on at 0.5" in line for line in both.said)


def test_an_interrupted_job_leaves_nothing(server, plain):
    before = plain()
    thread = threading.Thread(target=server.draw, args=FAST, kwargs={"steps": 150})
    thread.start()
    time.sleep(4)
    server.post("/sdapi/v1/interrupt")
    thread.join(120)
    assert not thread.is_alive()
    assert plain().bytes == before.bytes


def test_a_failing_job_leaves_nothing(server, plain):
    before = plain()
    with pytest.raises(RuntimeError):
        server.draw(*FAST, prompt="fail now")
    with pytest.raises(RuntimeError):
        server.draw(*FAST, path="img2img", init_images=["no picture"])
    assert plain().bytes == before.bytes


def test_wrong_values_are_said_in_one_line_and_the_picture_is_made(server, plain):
    for args, said in (
        ((True, "quick"), "preset must be one of"),
        ((True, "custom", 1, "same", False, "paper", 1, "", False, 7), "Speed ratio must be"),
    ):
        drawn = server.draw(*args)
        assert drawn.bytes == plain().bytes
        assert len(drawn.said) == 1 and said in drawn.said[0]


def test_a_prompt_is_bound_and_the_marks_reach_no_text_encoder(server, plain):
    bound = server.draw(True, "off", 1.0, "same", True)
    assert bound.bytes != plain().bytes
    assert {"Bound circle: red", "Bound square: blue"} <= set(bound.said)
    assert "ToMe binding: paper" in bound.infotexts[0]
    marked = server.draw(True, "off", 1.0, "same", True, prompt="~a red circle~ and ~a blue square~")
    assert marked.bytes == bound.bytes and "~a red circle~" in marked.infotexts[0]
    assert server.draw(True, "off", 1.0, "same", True, "paper", 0.0).bytes == plain().bytes


def test_maps_come_to_the_gallery(server):
    drawn = server.draw(True, "off", 1.0, "same", True, "paper", 1.0, "", True, batch_size=2)
    sheets = [image for image in drawn.images if image.width > 2 * 256]
    assert len(sheets) == 2


def test_a_grid_over_three_presets_is_labelled(server):
    plots = [info for info in server.get("/sdapi/v1/script-info") if info["name"].lower() == "x/y/z plot"]
    options = next(info["args"] for info in plots if not info["is_img2img"])
    choices = options[0]["choices"]
    args = [option["value"] for option in options]
    args[:3] = choices.index("[ToMe] Speed preset"), "", ["off", "gentle", "fast"]
    args[3:9] = [choices.index("Nothing"), "", []] * 2
    drawn = server.draw(False, script_name="x/y/z plot", script_args=args, steps=4)
    assert drawn.images[0].width >= 3 * 256  # the grid, with its labels above
    assert drawn.images[0].height > 256


def test_the_infotext_of_a_request_sets_the_script(server):
    text = "Steps: 6, Sampler: Euler, Seed: 1, ToMe preset: custom, ToMe ratio: 0.25, ToMe binding: gentle"
    drawn = server.draw(infotext=f"a red circle\n{text}")
    assert all(
        part in drawn.infotexts[0] for part in ("ToMe preset: custom", "ToMe ratio: 0.25", "ToMe binding: gentle")
    )


def test_prompts_from_a_file_are_drawn_one_by_one(server):
    scripts = server.get("/sdapi/v1/scripts")["txt2img"]
    if "prompts from file or textbox" not in scripts:
        pytest.skip("this webui has no such script")
    args = [False, False, "start", "a red circle and a blue square\na green star and a black cross"]
    drawn = server.draw(True, "fast", 1.0, "same", True, script_name="prompts from file or textbox", script_args=args)
    assert len(merged(drawn)) == 2 and {"Bound circle: red", "Bound star: green"} <= set(drawn.said)


def test_a_hundred_jobs_leave_the_memory_of_before(server):
    small = {"width": 64, "height": 64, "steps": 1}
    for _ in range(10):
        server.draw(*FAST, **small)
    before = server.memory()
    for number in range(100):
        server.draw(*(FAST if number % 2 else (False,)), **small)
    assert server.memory() < before * 1.03
    assert server.draw(False, **small).bytes == server.draw(**small).bytes


def test_a_lora_acts_and_tokens_merge_and_are_bound(server, plain):
    prompt = {"prompt": f"a red circle and a blue square <lora:{LORA}:1>"}
    assert plain(**prompt).bytes != plain().bytes
    on = server.draw(*FAST[:4], True, **prompt)
    assert merged(on) == [(6, 6)] and "Bound circle: red" in on.said
    assert on.bytes not in (server.draw(*FAST[:4], True).bytes, plain(**prompt).bytes)
    assert plain(**prompt).bytes == plain(**prompt).bytes and plain().bytes == plain().bytes


def test_the_models_name_is_the_demo_models(server):
    assert MODEL in server.draw(*FAST).infotexts[0]
