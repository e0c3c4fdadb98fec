import numpy as np
import torch

from tome_core.bench.drawing.sampling import Drawn, Settings, _noise, draw, encode_prompts
from tome_core.bench.methods.rows import SeenRows
from tome_core.bench.suites import Case

SETTINGS = Settings(steps=2, guidance=3.0, size=64)


def draw_from_rows(pipeline, rows, keep, seeds, settings: Settings) -> Drawn:
    cases = [Case((), "", seed) for seed in seeds]
    return SeenRows("rows", lambda *_: (rows, keep)).draw(pipeline, cases, settings)


def rows_of(pipeline, *prompts: str):
    rows, tokens = encode_prompts(pipeline, list(prompts))
    return rows, torch.ones_like(tokens, dtype=torch.bool)


def test_a_picture_is_the_one_that_the_pipeline_draws_with_a_generator_of_the_seed(pipeline):
    drawn = pipeline(
        "a red square",
        height=64,
        width=64,
        num_inference_steps=2,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(5),
        output_type="np",
    ).images[0]
    picture = draw(pipeline, ["a red square"], [5], SETTINGS).pictures[0]
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
    assert abs(picture.astype(float) - drawn * 255).max() <= 1.5


def test_with_every_row_seen_a_picture_from_rows_is_that_of_its_prompt(pipeline):
    prompts = ["a red square", "a blue star"]
    drawn = draw_from_rows(pipeline, *rows_of(pipeline, *prompts), [5, 6], SETTINGS)
    np.testing.assert_allclose(drawn.latents, draw(pipeline, prompts, [5, 6], SETTINGS).latents, atol=1e-3)


def test_a_sampler_that_adds_noise_takes_each_pictures_from_its_own_seed(pipeline):
    from diffusers import DPMSolverMultistepScheduler

    own = pipeline.scheduler
    assert own.config.algorithm_type == "sde-dpmsolver++"
    try:
        prompts, three = ["a red square", "a blue star"], Settings(steps=3, guidance=3.0, size=64)
        both = draw(pipeline, prompts, [5, 6], three).latents
        np.testing.assert_allclose(draw(pipeline, prompts[1:], [6], three).latents, both[1:], atol=1e-4)
        np.testing.assert_allclose(
            draw_from_rows(pipeline, *rows_of(pipeline, *prompts), [5, 6], three).latents, both, atol=1e-3
        )
        other = draw(pipeline, prompts[1:], [6], three).latents
        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(own.config, algorithm_type="dpmsolver++")
        assert abs(draw(pipeline, prompts[1:], [6], three).latents - other).max() > 0.1
    finally:
        pipeline.scheduler = own


def test_latents_come_with_the_pictures_that_they_decode_to(pipeline):
    drawn = draw(pipeline, ["a red square"], [5], SETTINGS)
    assert drawn.latents.shape == (1, 4, 8, 8) and drawn.latents.dtype == np.float32
    with torch.no_grad():
        decoded = pipeline.vae.decode(torch.from_numpy(drawn.latents) / pipeline.vae.config.scaling_factor).sample
    expected = (decoded[0].permute(1, 2, 0).clamp(-1, 1).numpy() + 1) * 127.5
    assert abs(drawn.pictures[0] - expected).max() <= 0.51


def test_noise_follows_from_each_seed_alone():
    _, both = _noise([1, 2], 64)
    assert torch.equal(both[1:], _noise([2], 64)[1])
    assert not torch.equal(*both)


def test_a_picture_does_not_depend_on_its_neighbours_in_the_batch(pipeline):
    rows, keep = rows_of(pipeline, "a red square", "a blue star")
    both = draw_from_rows(pipeline, rows, keep, [1, 2], SETTINGS).pictures
    alone = draw_from_rows(pipeline, rows[1:], keep[1:], [2], SETTINGS).pictures
    assert abs(both[1].astype(int) - alone[0].astype(int)).max() <= 1


def test_rows_that_are_not_seen_do_not_matter(pipeline):
    rows, every = rows_of(pipeline, "a red square")
    keep = every.clone()
    keep[0, 3] = False
    changed = rows.clone()
    changed[0, 3] = 7.0

    def picture(given: torch.Tensor, seen: torch.Tensor) -> np.ndarray:
        return draw_from_rows(pipeline, given, seen, [1], SETTINGS).pictures[0].astype(int)

    hidden = picture(changed, keep)
    assert abs(picture(rows, keep) - hidden).max() <= 1
    assert abs(picture(changed, every) - hidden).max() > 1
