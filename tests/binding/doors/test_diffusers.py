"""Unchanged diffusers pipelines that bind: what changes in their rows, what does not, and that nothing is left."""

import copy
import gc
import unicodedata
import warnings
import weakref
from functools import partial
from inspect import signature

import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LEditsPPPipelineStableDiffusion,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionLatentUpscalePipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
)

from tests.binding.conftest import COLOURS, OBJECTS
from tome_core.attention_maps import record_maps
from tome_core.binding import BindingConfig, apply_binding, phrases
from tome_core.errors import UnsupportedModelError
from tome_core.speed import SpeedConfig, apply_speed

BARE = "a cat and a dog"


def with_copies(pipeline, *names):
    """Return a pipeline with copies of some parts, which a test may change."""
    parts = dict(pipeline.components) | {name: copy.deepcopy(getattr(pipeline, name)) for name in names}
    return type(pipeline)(**parts, requires_safety_checker=False)


def test_strength_0_and_a_prompt_without_groups_give_the_same_picture_and_others_do_not(pipeline, latents):
    picture, bare = latents(pipeline, OBJECTS), latents(pipeline, BARE)
    with apply_binding(pipeline, BindingConfig(strength=0)) as handle:
        assert torch.equal(latents(pipeline, OBJECTS), picture)
        assert handle.prompts == ()
        assert len(handle.read(OBJECTS).groups) == 2
    with apply_binding(pipeline) as handle:
        assert not torch.equal(latents(pipeline, OBJECTS), picture)
        assert torch.equal(latents(pipeline, BARE), bare)
        assert handle.prompts[0].groups == ()


def test_closing_leaves_no_trace(pipeline, encode, latents, traces):
    modules = [pipeline.unet, pipeline.text_encoder]
    rows, picture = encode(pipeline, OBJECTS), latents(pipeline, OBJECTS)
    before, own = [traces(module) for module in modules], sorted(vars(pipeline))
    handle = apply_binding(pipeline)
    assert handle.is_installed
    assert sorted(vars(pipeline)) == sorted([*own, "_tome_binding", "encode_prompt"])
    bound = latents(pipeline, OBJECTS)
    handle.close()
    handle.close()
    assert not handle.is_installed
    assert sorted(vars(pipeline)) == own
    assert [traces(module) for module in modules] == before
    assert torch.equal(encode(pipeline, OBJECTS), rows)
    assert torch.equal(latents(pipeline, OBJECTS), picture)
    assert not torch.equal(bound, picture)


def test_an_exception_inside_with_closes_the_handle(sd15):
    with pytest.raises(KeyboardInterrupt), apply_binding(sd15) as handle:
        assert handle.is_installed
        raise KeyboardInterrupt
    assert "encode_prompt" not in vars(sd15)


def test_applying_twice_replaces_the_earlier_binding(sd15, encode):
    with apply_binding(sd15, BindingConfig(strength=0.5)):
        half = encode(sd15, OBJECTS)
    first = apply_binding(sd15)
    second = apply_binding(sd15, BindingConfig(strength=0.5))
    assert not first.is_installed
    assert torch.equal(encode(sd15, OBJECTS), half)
    first.close()
    assert second.is_installed
    second.close()
    assert "encode_prompt" not in vars(sd15)


def test_anothers_encoding_is_kept_and_given_back(sd15, encode):
    own = sd15.encode_prompt

    def theirs(*args, **kwargs):
        rows, negative = own(*args, **kwargs)
        return 2 * rows, negative

    sd15.encode_prompt = theirs
    try:
        rows = encode(sd15, COLOURS)
        with apply_binding(sd15, BindingConfig(ends="off")):
            assert torch.allclose(encode(sd15, COLOURS)[0, 3], rows[0, 2:4].sum(0), atol=1e-5)
        assert sd15.encode_prompt is theirs
    finally:
        del sd15.encode_prompt


@pytest.fixture
def wrap(sd15):
    """Return a function that puts another tool's encoding over the one that the pipeline has."""

    def put():
        inner = sd15.encode_prompt
        sd15.encode_prompt = lambda *args, **kwargs: inner(*args, **kwargs)

    yield put
    vars(sd15).pop("encode_prompt", None)


def test_closing_a_binding_that_another_tool_wrapped_ends_it(sd15, encode, wrap):
    rows, own = encode(sd15, OBJECTS), sorted(vars(sd15))
    handle = apply_binding(sd15)
    wrap()
    theirs = sd15.encode_prompt
    assert handle.is_installed
    assert not torch.equal(encode(sd15, OBJECTS), rows)
    handle.close()
    assert not handle.is_installed
    assert sd15.encode_prompt is theirs
    assert torch.equal(encode(sd15, OBJECTS), rows)
    assert sorted(vars(sd15)) == sorted([*own, "encode_prompt"])


def test_applying_over_a_binding_that_another_tool_wrapped_binds_once(sd15, encode, wrap):
    config = BindingConfig(removed="keep", ends="off")
    with apply_binding(sd15, config):
        once = encode(sd15, OBJECTS)
    first = apply_binding(sd15, config)
    wrap()
    with apply_binding(sd15, config) as second:
        assert not first.is_installed
        assert second.is_installed
        assert torch.equal(encode(sd15, OBJECTS), once)


def test_a_closed_handle_is_freed(sd15):
    handle = apply_binding(sd15)
    handle.close()
    gone = weakref.ref(handle)
    del handle
    gc.collect()
    assert gone() is None


def test_the_negative_prompt_and_the_pooled_vectors_stay(pipeline):
    settings = {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": True}
    settings |= {"prompt": OBJECTS, "negative_prompt": "a red cat with a hat"}
    with torch.no_grad():
        plain = pipeline.encode_prompt(**settings)
        with apply_binding(pipeline):
            bound = pipeline.encode_prompt(**settings)
    assert len(plain) == len(bound) == (4 if hasattr(pipeline, "tokenizer_2") else 2)
    assert not torch.equal(bound[0], plain[0])
    assert all(torch.equal(*pair) for pair in zip(bound[1:], plain[1:], strict=True))


def test_a_batch_of_prompts_and_images_is_each_alone(pipeline, encode):
    prompts = [OBJECTS, "a cat", COLOURS]
    with apply_binding(pipeline) as handle:
        alone = [encode(pipeline, prompt)[0] for prompt in prompts]
        batch = encode(pipeline, prompts, num_images_per_prompt=2)
        assert [len(bound.groups) for bound in handle.prompts] == [2, 0, 2]
    for i, rows in enumerate(alone):
        assert torch.allclose(batch[2 * i], rows, atol=1e-5)
        assert torch.equal(batch[2 * i], batch[2 * i + 1])


def test_the_end_row_of_sdxls_second_tower_comes_from_the_other_prompt(sdxl, encode):
    width = sdxl.text_encoder.config.hidden_size
    rows, bare = encode(sdxl, OBJECTS)[0], encode(sdxl, BARE)[0]
    with apply_binding(sdxl):
        bound = encode(sdxl, OBJECTS)[0]
    with apply_binding(sdxl, BindingConfig(ends="position")):
        by_place = encode(sdxl, OBJECTS)[0]
    assert torch.equal(bound[11, width:], bare[6, width:])
    assert torch.equal(by_place[11, width:], bare[11, width:])
    assert not torch.equal(bound[11, width:], rows[11, width:])


def test_a_second_prompt_binds_its_own_columns(sdxl, encode):
    width = sdxl.text_encoder.config.hidden_size
    with apply_binding(sdxl):
        both = encode(sdxl, OBJECTS, prompt_2=COLOURS)[0]
        objects, colours = encode(sdxl, OBJECTS)[0], encode(sdxl, COLOURS)[0]
    assert torch.equal(both[:, :width], objects[:, :width])
    assert torch.equal(both[:, width:], colours[:, width:])


def test_the_refiners_lone_tower_binds_the_first_prompt_which_it_reads(sdxl, encode):
    parts = dict(sdxl.components) | {"tokenizer": None, "text_encoder": None}
    refiner = type(sdxl)(**parts)
    untouched = encode(refiner, OBJECTS)
    assert torch.equal(encode(refiner, OBJECTS, prompt_2=COLOURS), untouched)
    with apply_binding(refiner) as handle:
        bound = encode(refiner, OBJECTS)
        assert torch.equal(encode(refiner, OBJECTS, prompt_2=COLOURS), bound)
        assert handle.prompts[0].parse.text == OBJECTS
    assert not torch.equal(bound, untouched)


def test_words_of_textual_inversion_are_one_thing(sd15, encode):
    words = len(sd15.tokenizer)
    taught = with_copies(sd15, "tokenizer", "text_encoder")
    taught.tokenizer.add_tokens(["<toy>", "<toy>_1", "<toy>_2"])
    taught.text_encoder.resize_token_embeddings(len(taught.tokenizer))
    with apply_binding(taught, parser=partial(phrases, listing="<toy>: red")) as handle:
        encode(taught, "a red <toy> on a hill")
    assert [(x.noun, x.modifiers) for x in handle.prompts[0].groups] == [((3, 4, 5), (2,))]
    assert len(sd15.tokenizer) == words


class Accentless:
    """A tokenizer that drops accents before it cuts, as the slow one of older transformers does."""

    def __init__(self, whole):
        self._whole = whole

    def __getattr__(self, name):
        return getattr(self._whole, name)

    def __call__(self, text, *args, **kwargs):
        texts = [text] if isinstance(text, str) else text
        plain = [unicodedata.normalize("NFD", x).encode("ascii", "ignore").decode() for x in texts]
        return self._whole(plain[0] if isinstance(text, str) else plain, *args, **kwargs)


def test_a_prompt_that_the_tokenizer_changes_stays_unbound_and_is_said(pipeline, encode):
    changed = copy.copy(pipeline)
    vars(changed)["tokenizer"] = Accentless(pipeline.tokenizer)
    prompts = ["a red café", COLOURS]
    rows = encode(changed, prompts)
    with apply_binding(changed) as handle:
        with pytest.warns(
            UserWarning, match="prompt was left unbound, 'a red café': tokens must be those of the prompt"
        ):
            bound = encode(changed, prompts)
        assert [len(caught.groups) for caught in handle.prompts] == [0, 2]
        with pytest.raises(ValueError, match="tokens must be those of the prompt"):
            handle.read(prompts[0])
    assert torch.equal(bound[0], rows[0])
    assert not torch.equal(bound[1], rows[1])


def test_an_embedding_that_is_given_ready_made_is_left_alone_and_said(sd15, encode):
    rows = encode(sd15, OBJECTS)

    def picture():
        given = {"prompt_embeds": rows, "negative_prompt_embeds": torch.zeros_like(rows)}
        settings = {"num_inference_steps": 1, "width": 64, "height": 64, "output_type": "latent"}
        return sd15(**given, generator=torch.Generator().manual_seed(0), **settings).images

    untouched = picture()
    with apply_binding(sd15), pytest.warns(UserWarning, match="binding has no effect on prompt_embeds"):
        assert torch.equal(picture(), untouched)


SHARES = (
    "^StableDiffusionImg2ImgPipeline shares the text encoder of a bound pipeline but not its binding, so its prompts "
    "stay unbound: call apply_binding on it$"
)


@pytest.fixture
def sibling(sd15):
    """A pipeline that `from_pipe` makes of another."""
    made = StableDiffusionImg2ImgPipeline.from_pipe(sd15, requires_safety_checker=False)
    assert made.text_encoder is sd15.text_encoder
    return made


def test_a_pipeline_that_shares_the_text_encoder_and_not_the_binding_is_said_once(sd15, sibling, encode, traces):
    rows, before = encode(sibling, OBJECTS), traces(sd15.text_encoder)
    with apply_binding(sd15) as handle:
        assert traces(sd15.text_encoder) != before
        with pytest.warns(UserWarning, match=SHARES) as caught:
            assert torch.equal(encode(sibling, OBJECTS), rows)
            encode(sibling, COLOURS)
        assert len(caught) == 1
    assert traces(sd15.text_encoder) == before
    encode(sibling, OBJECTS)
    assert not handle.is_installed


def test_two_text_encoders_say_it_once(sdxl, encode):
    with apply_binding(sdxl), pytest.warns(UserWarning, match="so its prompts stay unbound") as caught:
        encode(StableDiffusionXLImg2ImgPipeline.from_pipe(sdxl), OBJECTS)
    assert len(caught) == 1


@pytest.mark.filterwarnings("error:.*shares the text encoder")
@pytest.mark.parametrize("strength", [0, 1])
def test_a_pipeline_with_a_binding_of_its_own_is_not_named(sd15, sibling, encode, strength):
    with apply_binding(sd15), apply_binding(sibling, BindingConfig(strength=strength)):
        assert torch.equal(encode(sd15, OBJECTS), encode(sibling, OBJECTS)) == bool(strength)


@pytest.mark.filterwarnings("error:.*shares the text encoder")
def test_at_strength_0_no_pipeline_is_named(sd15, sibling, encode, traces):
    before = traces(sd15.text_encoder)
    with apply_binding(sd15, BindingConfig(strength=0)):
        assert traces(sd15.text_encoder) == before
        encode(sibling, OBJECTS)


@pytest.mark.filterwarnings("error:.*prompts stay unbound")
def test_what_encodes_on_the_pipelines_behalf_is_not_named(sd15, encode, latents, wrap):
    ids = sd15.tokenizer(OBJECTS, return_tensors="pt").input_ids
    with apply_binding(sd15):
        rows = encode(sd15, OBJECTS)
        with pytest.warns(UserWarning, match="binding has no effect on prompt_embeds"):
            sd15(prompt_embeds=rows, negative_prompt_embeds=rows, num_inference_steps=1, width=64, height=64)
        wrap()
        latents(sd15, OBJECTS)
        with torch.no_grad():
            sd15.text_encoder(ids)
        type(sd15).encode_prompt(sd15, OBJECTS, "cpu", 1, False)
        encode(copy.deepcopy(sd15), OBJECTS)


def test_binding_and_speed_give_the_same_picture_in_either_order(pipeline, latents):
    config = SpeedConfig(ratio=0.5, levels=(1, 2), parts=("attention", "cross_attention"))
    with apply_speed(pipeline, config):
        merged = latents(pipeline, OBJECTS)
        with apply_binding(pipeline):
            both = latents(pipeline, OBJECTS)
        with apply_binding(pipeline, BindingConfig(strength=0)):
            assert torch.equal(latents(pipeline, OBJECTS), merged)
    with apply_binding(pipeline):
        bound = latents(pipeline, OBJECTS)
        with apply_speed(pipeline, config):
            assert torch.equal(latents(pipeline, OBJECTS), both)
    assert not any(torch.equal(both, other) for other in (merged, bound))


@pytest.mark.parametrize("settings", [{"guidance_scale": 1.0}, {"width": 96, "height": 40}])
def test_without_guidance_and_at_any_aspect(pipeline, latents, settings):
    untouched = latents(pipeline, OBJECTS, **settings)
    with apply_binding(pipeline):
        bound = latents(pipeline, OBJECTS, **settings)
        assert torch.equal(latents(pipeline, OBJECTS, **settings), bound)
    with apply_binding(pipeline, BindingConfig(strength=0)):
        assert torch.equal(latents(pipeline, OBJECTS, **settings), untouched)
    assert not torch.equal(bound, untouched)


def test_in_inference_mode_the_bits_are_the_same(pipeline, encode):
    with apply_binding(pipeline):
        bound = encode(pipeline, OBJECTS)
        with torch.inference_mode():
            assert torch.equal(encode(pipeline, OBJECTS), bound)
        assert torch.equal(encode(pipeline, OBJECTS), bound)


def test_a_sampler_of_two_calls_a_step_is_bound_and_recorded_in_each(sd15, latents):
    heun = type(sd15)(**sd15.components, requires_safety_checker=False)
    heun.scheduler = HeunDiscreteScheduler.from_config(sd15.scheduler.config)
    heun.set_progress_bar_config(disable=True)
    untouched = latents(heun, OBJECTS, num_inference_steps=3)
    with apply_binding(heun, BindingConfig(strength=0)):
        assert torch.equal(latents(heun, OBJECTS, num_inference_steps=3), untouched)
    with apply_binding(heun), record_maps(heun, [2, 7]) as recorder:
        bound = latents(heun, OBJECTS, num_inference_steps=3)
    assert len(recorder.calls) == 2 * 3 - 1
    assert not torch.equal(bound, untouched)


@pytest.mark.parametrize(("ends", "more"), [("end", 1), ("position", 1), ("off", 0)])
def test_it_costs_one_more_run_of_each_text_encoder_at_most_and_none_of_the_unet(pipeline, latents, ends, more):
    modules = [getattr(pipeline, name, None) for name in ("unet", "text_encoder", "text_encoder_2")]
    runs = [0] * len(modules)

    def count(place):
        def hook(*_):
            runs[place] += 1

        return hook

    hooks = [module.register_forward_hook(count(i)) for i, module in enumerate(modules) if module is not None]
    try:
        latents(pipeline, OBJECTS)
        untouched, runs[:] = list(runs), [0] * len(modules)
        with apply_binding(pipeline, BindingConfig(ends=ends)):
            latents(pipeline, OBJECTS)
    finally:
        for hook in hooks:
            hook.remove()
    assert runs == [untouched[0], *(before + more if before else 0 for before in untouched[1:])]


def test_an_image_is_the_same_alone_and_in_a_batch(sd15, latents):
    with apply_binding(sd15):
        alone = latents(sd15, COLOURS, seeds=[1])
        batch = latents(sd15, [OBJECTS, COLOURS], seeds=[0, 1])
    assert torch.allclose(batch[1], alone[0], atol=1e-4)


def test_half_precision_is_kept(sd15, encode):
    half = with_copies(sd15, "text_encoder")
    half.text_encoder.to(torch.bfloat16)
    with apply_binding(half):
        assert encode(half, OBJECTS).dtype == torch.bfloat16
    assert sd15.text_encoder.dtype == torch.float32


def test_a_subject_that_is_cut_off_is_refused_before_any_work(sd15, latents):
    prompt = "very " * 74 + "red cat"
    with apply_binding(sd15), pytest.raises(ValueError, match=r"group must lie within .*, of which 'cat' is cut off"):
        latents(sd15, prompt)
    with apply_binding(sd15) as handle:
        latents(sd15, "a red cat" + " and so on" * 40)  # what is cut off is of no group
        assert len(handle.prompts[0].groups) == 1
    untouched = latents(sd15, prompt)
    with apply_binding(sd15, BindingConfig(strength=0)):
        assert torch.equal(latents(sd15, prompt), untouched)


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        (["text_encoder"], "StableDiffusionPipeline without text_encoder"),
        (["tokenizer"], "StableDiffusionPipeline without tokenizer"),
        (["tokenizer", "text_encoder"], "StableDiffusionPipeline without tokenizer and text_encoder"),
        (["unet"], "StableDiffusionPipeline"),
    ],
)
def test_a_pipeline_that_lacks_a_part_is_refused(sd15, missing, named):
    parts = dict(sd15.components) | dict.fromkeys(missing)
    broken = type(sd15)(**parts, requires_safety_checker=False)
    with pytest.raises(UnsupportedModelError) as caught:
        apply_binding(broken)
    supported = "a Stable Diffusion or SDXL pipeline with its tokenizers and CLIP text encoders"
    assert str(caught.value) == f"pipeline must be {supported}, got {named}"
    assert "encode_prompt" not in vars(broken)


def test_a_text_encoder_of_another_kind_is_refused(sd15):
    parts = dict(sd15.components) | {"text_encoder": torch.nn.Linear(2, 2)}
    broken = type(sd15)(**parts, requires_safety_checker=False)
    with pytest.raises(UnsupportedModelError, match="got StableDiffusionPipeline with a Linear"):
        apply_binding(broken)


def refused(pipeline, found, traces):
    own, before = sorted(vars(pipeline)), traces(pipeline.text_encoder)
    with pytest.raises(UnsupportedModelError) as caught:
        apply_binding(pipeline)
    supported = "a Stable Diffusion or SDXL pipeline with its tokenizers and CLIP text encoders"
    assert str(caught.value) == f"pipeline must be {supported}, got {found}"
    assert (sorted(vars(pipeline)), traces(pipeline.text_encoder)) == (own, before)


@pytest.mark.parametrize("kind", [StableDiffusionInstructPix2PixPipeline, LEditsPPPipelineStableDiffusion])
def test_a_pipeline_with_an_encoding_of_its_own_is_refused(sd15, kind, traces):
    own = {"scheduler": DPMSolverMultistepScheduler.from_config(sd15.scheduler.config)}
    parts = {name: part for name, part in sd15.components.items() if name in signature(kind).parameters}
    pipeline = kind(**parts | own, requires_safety_checker=False)
    refused(pipeline, f"{kind.__name__}, which does not encode its prompts by encode_prompt", traces)


class ByItself(StableDiffusionPipeline):
    def __call__(self, prompt):
        return self._encode_prompt(prompt)

    def _encode_prompt(self, prompt):
        return self.text_encoder(self.tokenizer(prompt, return_tensors="pt").input_ids)


@pytest.mark.parametrize(("strength", "said"), [(0, 0), (1, 1)])
def test_a_call_that_never_leads_to_encode_prompt_is_said_once(sd15, strength, said):
    pipeline = ByItself(**sd15.components, requires_safety_checker=False)
    with apply_binding(pipeline, BindingConfig(strength=strength)), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pipeline(OBJECTS)
        pipeline(OBJECTS)
    sentence = "ByItself does not encode by encode_prompt, so its prompts stay unbound"
    assert [str(warning.message) for warning in caught] == [sentence] * said


class WithoutNumbers(StableDiffusionPipeline):
    def encode_prompt(self, prompt, device):
        return super().encode_prompt(prompt, device, 2, False)


def test_an_encoding_without_arguments_for_images_and_guidance_is_bound(sd15):
    kinds = (WithoutNumbers, StableDiffusionPipeline)
    one, other = (kind(**sd15.components, requires_safety_checker=False) for kind in kinds)
    with torch.no_grad(), apply_binding(one), apply_binding(other):
        bound = one.encode_prompt(OBJECTS, "cpu")[0]
        assert torch.equal(bound, other.encode_prompt(OBJECTS, "cpu", 2, False)[0])
    with torch.no_grad():
        assert not torch.equal(one.encode_prompt(OBJECTS, "cpu")[0], bound)


def test_the_latent_upscaler_which_has_no_number_of_images_is_bound(sd15):
    upscaler = StableDiffusionLatentUpscalePipeline(
        sd15.vae, sd15.text_encoder, sd15.tokenizer, sd15.unet, EulerDiscreteScheduler()
    )
    with torch.no_grad():
        plain = upscaler.encode_prompt(OBJECTS, "cpu", True, None)
        with apply_binding(upscaler):
            bound = upscaler.encode_prompt(OBJECTS, "cpu", True, None)
    assert torch.allclose(bound[0][:, 2], plain[0][:, 2:5].sum(1), atol=1e-5)
    assert all(torch.equal(*pair) for pair in zip(bound[1:], plain[1:], strict=True))


def test_a_bare_unet_is_refused(sd15):
    with pytest.raises(UnsupportedModelError, match="got UNet2DConditionModel"):
        apply_binding(sd15.unet)
