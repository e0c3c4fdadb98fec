import numpy as np
import pytest
import torch

from tome_core.demo import load_demo
from tome_core.evaluation.sampling import encode_prompts, sample

SETTINGS = {"steps": 2, "guidance": 3.0, "size": 64}


@pytest.fixture(scope="module")
def pipeline():
    return load_demo()


def test_with_every_row_seen_a_picture_is_the_one_that_the_pipeline_draws(pipeline):
    prompt = "a red square"
    rows, tokens = encode_prompts(pipeline, [prompt])
    keep = torch.ones_like(tokens, dtype=torch.bool)
    picture = sample(pipeline, rows, keep, [5], **SETTINGS)[0]
    drawn = pipeline(
        prompt,
        height=64,
        width=64,
        num_inference_steps=2,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(5),
        output_type="np",
    ).images[0]
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
    assert abs(picture.astype(float) - drawn * 255).max() <= 1.5


def test_a_picture_does_not_depend_on_its_neighbours_in_the_batch(pipeline):
    rows, tokens = encode_prompts(pipeline, ["a red square", "a blue star"])
    keep = torch.ones_like(tokens, dtype=torch.bool)
    both = sample(pipeline, rows, keep, [1, 2], **SETTINGS)
    alone = sample(pipeline, rows[1:], keep[1:], [2], **SETTINGS)
    assert abs(both[1].astype(int) - alone[0].astype(int)).max() <= 1


def test_rows_that_are_not_seen_do_not_matter(pipeline):
    rows, tokens = encode_prompts(pipeline, ["a red square"])
    keep = torch.ones_like(tokens, dtype=torch.bool)
    keep[0, 3] = False
    changed = rows.clone()
    changed[0, 3] = 7.0
    seen = [sample(pipeline, given, keep, [1], **SETTINGS)[0].astype(int) for given in (rows, changed)]
    assert abs(seen[0] - seen[1]).max() <= 1
    unmasked = sample(pipeline, changed, torch.ones_like(keep), [1], **SETTINGS)[0].astype(int)
    assert abs(unmasked - seen[1]).max() > 1
