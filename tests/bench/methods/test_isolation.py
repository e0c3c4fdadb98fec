"""Phrases encoded apart: where a prompt is cut, and what the text encoder's rows become."""

from typing import Any

import pytest
import torch

from tests.tools.random_checkpoints import narrow_configs, write_original
from tome_core.bench.methods.isolation import isolated, split_phrases
from tome_core.bench.suites import load_suite
from tome_core.binding import phrases
from tome_core.checkpoints import load_original

TWO, THREE = "a red circle and a blue square", "a red circle, a blue square and a green star"


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def pipeline(request, tmp_path_factory) -> Any:
    path, configs = tmp_path_factory.mktemp("narrow") / "weights.safetensors", narrow_configs(request.param)
    write_original(path, request.param, configs)
    return load_original(path, configs, dtype=torch.float32)


def encode(pipeline: Any, prompt: str | list[str], **settings: Any) -> tuple[Any, ...]:
    settings = {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": True} | settings
    with torch.no_grad():
        return pipeline.encode_prompt(prompt=prompt, **settings)


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        (TWO, ("a red circle", "a blue square")),
        (THREE, ("a red circle", "a blue square", "a green star")),
        (
            "a photo of a cat wearing sunglasses and a dog wearing a hat, in a park",
            ("a photo of a cat wearing sunglasses", "a dog wearing a hat, in a park"),
        ),
        ("1girl, red dress, blue hat", ("1girl, red dress", "blue hat")),
        ("a red band and the black andes", ("a red band", "the black andes")),
        ("a red cat", ("a red cat",)),
        ("a cat and a dog", ("a cat and a dog",)),
        ("", ("",)),
    ],
)
def test_a_prompt_is_cut_before_the_article_of_each_thing_but_the_first(prompt, parts):
    assert split_phrases(phrases(prompt)) == parts


@pytest.mark.parametrize("name", ["two-colours", "three-objects"])
def test_the_prompts_of_a_suite_are_cut_into_the_phrases_that_they_were_made_of(name):
    suite = load_suite(name)
    for case in suite.cases("held-out", len(suite.parts["held-out"]), 1):
        assert split_phrases(phrases(case.prompt)) == case.phrases


def test_each_phrase_has_the_rows_that_it_has_alone(pipeline):
    alone = torch.cat([encode(pipeline, part)[0] for part in ("a red circle", "a blue square")], dim=1)
    whole = encode(pipeline, TWO)
    with isolated(pipeline):
        rows, negative, *pooled = encode(pipeline, TWO)
    assert rows.shape[1] == 2 * 77
    assert torch.allclose(rows, alone, atol=1e-5)
    assert torch.equal(negative, whole[1].repeat(1, 2, 1))
    assert all(torch.equal(mine, other) for mine, other in zip(pooled, whole[2:], strict=True))


def test_prompts_of_several_lengths_are_repeated_whole_times_and_images_share_their_prompts_rows(pipeline):
    with isolated(pipeline):
        alone = [encode(pipeline, prompt)[0][0] for prompt in (TWO, THREE)]
        rows = encode(pipeline, [TWO, THREE], num_images_per_prompt=2)[0]
    assert rows.shape[:2] == (4, 6 * 77)
    assert torch.allclose(rows[0], alone[0].repeat(3, 1), atol=1e-5)
    assert torch.allclose(rows[2], alone[1].repeat(2, 1), atol=1e-5)
    assert torch.equal(rows[0], rows[1])


def test_the_same_picture_comes_alone_and_beside_a_longer_prompt(pipeline):
    def latents(*prompts: str) -> torch.Tensor:
        noise = [torch.Generator().manual_seed(0) for _ in prompts]
        settings = {"num_inference_steps": 2, "width": 64, "height": 64, "output_type": "latent"}
        with isolated(pipeline):
            return pipeline(list(prompts), generator=noise, **settings).images

    assert torch.allclose(latents(TWO)[0], latents(TWO, THREE)[0], atol=1e-4)


def test_a_prompt_of_one_thing_gives_the_same_bits(pipeline):
    rows = encode(pipeline, "a red circle")
    with isolated(pipeline):
        apart = encode(pipeline, "a red circle")
    assert all(torch.equal(mine, other) for mine, other in zip(apart, rows, strict=True))


def test_nothing_is_left_on_the_pipeline_and_anothers_encoding_stays(pipeline):
    before = dict(vars(pipeline))
    with pytest.raises(RuntimeError, match="half-way"), isolated(pipeline):
        assert "encode_prompt" in vars(pipeline)
        raise RuntimeError("half-way")
    assert vars(pipeline) == before
    theirs = pipeline.encode_prompt
    pipeline.encode_prompt = theirs
    try:
        with isolated(pipeline):
            assert pipeline.encode_prompt is not theirs
        assert pipeline.encode_prompt is theirs
    finally:
        del pipeline.encode_prompt
