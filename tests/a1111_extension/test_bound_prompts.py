"""What a job's prompts become on their way to the sampler: which rows, at which step, and what stays."""

import copy

import pytest
import torch

from tests.a1111_extension.fake import prompts as host
from tests.a1111_extension.fake.prompts import Model, encode, new_job, params
from tests.binding.fake_clip import tokenizer
from tests.binding.fake_webui import Encoder
from tome_core.binding import BindingConfig, phrases
from tome_core.binding.doors.chunks import HostEncoders, bind_chunks

COLOURS = "a red circle and a blue square"


@pytest.fixture(scope="module")
def extension():
    with host.installed() as modules:
        from a1111_extension import bound_prompts

        yield bound_prompts, modules["modules.shared"]


@pytest.fixture
def new_prompts(extension):
    return lambda groups="", **config: extension[0].BoundPrompts(BindingConfig(**config), groups)


def rows(text, model, groups="", **config):
    """Return the rows of a text as they are bound alone."""
    encoders = HostEncoders(model.encoders, lambda token: tokenizer().convert_ids_to_tokens(token))
    (own,) = model.encode([text.replace("~", "")])
    own = own["crossattn"] if isinstance(own, dict) else own
    return bind_chunks(own, phrases(text, groups), encoders, BindingConfig(**config)).rows


def applied(prompts, job, cond, step=0):
    given = params(job, cond, step)
    prompts.apply(given)
    return given.text_cond


def sd1():
    return Model(**{"": Encoder()})


def test_rows_are_image_by_image_and_part_by_part(new_prompts):
    model = sd1()
    texts = ["a red circle AND a blue square :0.5", COLOURS]
    job, cond = new_job(model, texts), encode(model, texts, 10)
    prompts = new_prompts()
    prompts.prepare(job, cond)
    found = applied(prompts, job, cond)
    parts = ["a red circle ", " a blue square", COLOURS]
    assert torch.allclose(found, torch.stack([rows(text, model) for text in parts]), atol=1e-5)
    assert prompts.report().splitlines() == ["Bound circle: red", "Bound square: blue"]
    assert prompts.step.images == (0, 0, 1)
    assert [[phrase.label for phrase in own] for own in prompts.step.phrases] == [
        ["circle"],
        ["square"],
        ["circle", "square"],
    ]


def test_each_part_of_a_schedule_is_bound_by_its_own_words(new_prompts):
    model, text = sd1(), "a [red:blue:0.5] circle"
    job, cond = new_job(model, [text]), encode(model, [text], 10)
    prompts = new_prompts(ends="off")
    prompts.prepare(job, cond)
    for step, word in ((0, "red"), (5, "red"), (6, "blue"), (9, "blue")):
        assert torch.allclose(
            applied(prompts, job, cond, step)[0], rows(f"a {word} circle", model, ends="off"), atol=1e-4
        )
    assert prompts.report().splitlines() == ["Bound circle: red", "Bound circle: blue"]


def test_words_that_alternate_are_bound_in_turn(new_prompts):
    model, text = Model(**{"": Encoder(emphasis="No norm")}), "a [red|blue] circle"
    job, cond = new_job(model, [text], 4), encode(model, [text], 4)
    prompts = new_prompts()
    prompts.prepare(job, cond)
    encoded = model.encoders[0].encoded
    for step in range(1, 5):
        word = ("red", "blue")[(step - 1) % 2]
        assert torch.allclose(applied(prompts, job, cond, step)[0], rows(f"a {word} circle", model), atol=1e-5)
    assert model.encoders[0].encoded - encoded == 4 * 2  # by this test: what is bound was encoded before


def test_a_schedules_longer_part_pads_the_shorter_one(new_prompts):
    model, text = sd1(), "a [red:blue BREAK green:0.5] circle"
    job, cond = new_job(model, [text]), encode(model, [text], 10)
    assert {len(schedule.cond) for schedule in cond.batch[0][0].schedules} == {154}
    prompts = new_prompts()
    prompts.prepare(job, cond)
    first = applied(prompts, job, cond)[0]
    assert torch.allclose(first[:77], rows("a red circle", model), atol=1e-3)
    assert torch.equal(first[77:], cond.batch[0][0].schedules[0].cond[77:])


def test_a_shorter_prompt_of_a_batch_is_padded_with_its_own_last_row(new_prompts):
    model, texts = sd1(), [COLOURS, "a red circle BREAK a lake"]
    job, cond = new_job(model, texts), encode(model, texts, 10)
    prompts = new_prompts()
    found = applied(prompts, job, cond)
    assert found.shape[1] == 154
    assert torch.allclose(found[0, :77], rows(COLOURS, model), atol=1e-5)
    assert torch.equal(found[0, 77:], found[0, 76].expand(77, -1))


@pytest.mark.parametrize("engines", [("_l", "_g"), ("_g",)], ids=["sdxl", "refiner"])
def test_sdxl_keeps_its_pooled_vectors(new_prompts, engines):
    model = Model(**{name: Encoder(name[1:]) for name in engines})
    job, cond = new_job(model, [COLOURS]), encode(model, [COLOURS], 10)
    prompts = new_prompts()
    found = applied(prompts, job, cond)
    if len(engines) == 2:
        assert torch.equal(found["vector"][0], cond.batch[0][0].schedules[0].cond["vector"])
        found = found["crossattn"]
    assert torch.allclose(found[0], rows(COLOURS, model), atol=1e-5)


def test_auto1111s_encoders_are_found_below_cond_stage_model(new_prompts):
    class Auto1111:
        pass

    model, encoders = Auto1111(), [Encoder("l"), Encoder("g")]
    for encoder in encoders:
        encoder.hijack = encoder.embeddings  # type: ignore[attr-defined]
        del encoder.emphasis
        encoder.__class__ = type("WithSetting", (Encoder,), {"emphasis": type("Setting", (), {"name": "Original"})()})
    model.cond_stage_model = type("Conditioner", (), {"embedders": [*encoders, object()]})()  # type: ignore[attr-defined]
    model.encoders, model.encode = encoders, lambda texts: Model.encode(model, texts)  # type: ignore[attr-defined, arg-type]
    job, cond = new_job(model, [COLOURS]), encode(model, [COLOURS], 10)
    assert torch.allclose(applied(new_prompts(), job, cond)["crossattn"][0], rows(COLOURS, model), atol=1e-5)


def snapshot(cond):
    return copy.deepcopy([[[one.cond for one in part.schedules] for part in parts] for parts in cond.batch])


@pytest.mark.parametrize("engines", [{"": "l"}, {"_l": "l", "_g": "g"}], ids=["sd1", "sdxl"])
def test_the_hosts_cache_stays_bit_for_bit(new_prompts, engines):
    model = Model(**{name: Encoder(kind) for name, kind in engines.items()})
    texts = ["a [red:blue:0.5] circle AND a green star", COLOURS]
    job, cond = new_job(model, texts), encode(model, texts, 10)
    before, identity = snapshot(cond), [id(schedule.cond) for schedule in cond.batch[0][0].schedules]
    prompts, given = new_prompts(), params(job, cond)
    text = given.text_cond
    kept = copy.deepcopy(text)
    prompts.apply(given)
    assert given.text_cond is not text
    for own, other in ((text, kept),) if torch.is_tensor(text) else [(text[key], kept[key]) for key in kept]:
        assert torch.equal(own, other)
    after = snapshot(cond)
    assert str(before) == str(after) and identity == [id(one.cond) for one in cond.batch[0][0].schedules]


@pytest.mark.parametrize(("text", "config"), [(COLOURS, {"strength": 0}), ("a circle", {}), ("", {})])
def test_with_nothing_to_bind_the_step_keeps_its_own_object(new_prompts, text, config):
    model = sd1()
    job, cond = new_job(model, [text]), encode(model, [text], 10)
    prompts, given = new_prompts(**config), params(job, cond)
    own = given.text_cond
    prompts.apply(given)
    assert given.text_cond is own
    found = prompts.report()
    assert found.startswith("Strength 0" if config else "No groups found. A group is a thing with words")


def test_phrases_are_there_for_maps_at_strength_0_too(new_prompts):
    model = sd1()
    job, cond = new_job(model, [COLOURS]), encode(model, [COLOURS], 10)
    prompts = new_prompts(strength=0)
    encoded = model.encoders[0].encoded
    text = applied(prompts, job, cond)
    assert model.encoders[0].encoded == encoded
    assert [phrase.label for phrase in prompts.step.phrases[0]] == ["circle", "square"]
    assert prompts.step.rows is text and prompts.step.latent == (32, 32)


def test_what_is_known_is_not_bound_again(new_prompts):
    model = sd1()
    job, cond = new_job(model, [COLOURS]), encode(model, [COLOURS], 10)
    prompts = new_prompts()
    prompts.prepare(job, cond)
    lines, encoded = len(model.encoders[0].lines), model.encoders[0].encoded
    for step in range(3):
        prompts.prepare(job, cond)
        applied(prompts, job, cond, step)
    assert (len(model.encoders[0].lines), model.encoders[0].encoded) == (lines, encoded)


def test_the_hires_pass_is_bound_by_its_own_prompts_and_steps(new_prompts):
    model, text = sd1(), "a [red:blue:1.5] circle"
    job = new_job(model, [COLOURS], 10, hr_prompts=[text])
    first, hires = encode(model, [COLOURS], 10), encode(model, [text], 10, 8)
    prompts = new_prompts()
    prompts.prepare(job, first)
    job.is_hr_pass = True
    prompts.prepare(job, hires)
    assert [one.end_at_step for one in hires.batch[0][0].schedules] == [4, 8]
    assert torch.allclose(applied(prompts, job, hires, 4)[0], rows("a red circle", model), atol=1e-3)
    assert torch.allclose(applied(prompts, job, hires, 5)[0], rows("a blue circle", model), atol=1e-3)
    assert prompts.notes == []


def test_a_refiner_that_takes_over_is_bound_by_its_own_text_encoder(new_prompts):
    model, refiner = Model(**{"_l": Encoder("l"), "_g": Encoder("g")}), Model(**{"_g": Encoder("g")})
    job, cond = new_job(model, [COLOURS]), encode(model, [COLOURS], 10)
    prompts = new_prompts()
    prompts.prepare(job, cond)
    applied(prompts, job, cond)
    job.sd_model, refined = refiner, encode(refiner, [COLOURS], 10)
    assert torch.allclose(applied(prompts, job, refined, 8)[0], rows(COLOURS, refiner), atol=1e-5)


def test_marks_are_taken_out_before_the_host_encodes_and_count_for_the_groups(new_prompts):
    model, prompts = sd1(), new_prompts()
    texts = ["a ~[white:black:0.5] cat~ and a black dog", "a ~(white:1.2) ^cat~ AND a ~black dog~"]
    plain = prompts.unmark(texts)
    assert plain == ["a [white:black:0.5] cat and a black dog", "a (white:1.2) cat AND a black dog"]
    job, cond = new_job(model, plain), encode(model, plain, 10)
    found = applied(prompts, job, cond, 9)
    assert torch.allclose(found[0], rows("a ~black cat~ and a black dog", model), atol=1e-3)
    assert torch.allclose(found[2], rows(" a ~black dog~", model), atol=1e-5)
    assert prompts.report().splitlines() == ["Bound cat: white", "Bound cat: black", "Bound dog: black"]


def test_prompts_that_differ_in_their_marks_alone_are_bound_each_by_its_own(new_prompts):
    model, prompts = sd1(), new_prompts()
    texts = ["a ~white cat~ and a black dog", "a white cat and a ~black dog~", "a white cat and a black dog"]
    plain = prompts.unmark(texts)
    job, cond = new_job(model, plain), encode(model, plain, 10)
    found = applied(prompts, job, cond)
    for own, text in zip(found, texts, strict=True):
        assert torch.allclose(own, rows(text, model), atol=1e-5)


def test_prompts_without_marks_and_with_wrong_ones_stay(new_prompts):
    prompts = new_prompts()
    texts = ["~10 apples and ~5 pears", "a ~red ^^cat~", "a cat", ""]
    assert prompts.unmark(texts) == texts
    model = sd1()
    job, cond = new_job(model, texts), encode(model, texts, 10)
    given = params(job, cond)
    own = given.text_cond
    prompts.apply(given)
    assert given.text_cond is own
    assert prompts.notes == ["Nothing bound in 'a ~red ^^cat~': group must have one ^ at most, got '~red ^^cat~'."]


def test_a_mark_across_two_parts_has_no_effect_and_is_named(new_prompts):
    model, prompts = sd1(), new_prompts()
    plain = prompts.unmark(["a ~red circle AND a blue square~"])
    assert plain == ["a red circle AND a blue square"]
    job, cond = new_job(model, plain), encode(model, plain, 10)
    found = applied(prompts, job, cond)
    assert torch.allclose(found[0], rows("a red circle ", model), atol=1e-5)
    assert prompts.notes[0].startswith("Marks do not fit in with the prompt's schedule or AND")


def test_a_list_of_groups_binds_the_parts_that_have_its_words_and_names_the_others(new_prompts):
    model, text = sd1(), "a red circle AND a forest"
    job, cond = new_job(model, [text]), encode(model, [text], 10)
    prompts = new_prompts("circle: red")
    found = applied(prompts, job, cond)
    assert torch.allclose(found[0], rows("a red circle ", model), atol=1e-5)
    assert torch.equal(found[1], cond.batch[0][1].schedules[0].cond)
    named = "Nothing bound in ' a forest': groups must name words of the prompt, got 'circle'."
    assert prompts.report().splitlines() == ["Bound circle: red", named]


@pytest.mark.parametrize(
    ("engines", "found"), [(("_l", "_t5"), "t5"), (("_qwen",), "qwen"), (("_l", "_g", "_t5"), "t5"), ((), "Model")]
)
def test_other_text_encoders_are_named_once_and_nothing_is_bound(new_prompts, engines, found):
    model = Model(**{name: Encoder() for name in engines})
    cond = encode(sd1(), [COLOURS], 10)
    prompts, job = new_prompts(), new_job(model, [COLOURS])
    for step in range(2):
        given = params(job, cond, step)
        own = given.text_cond
        prompts.apply(given)
        assert given.text_cond is own
    supported = "text encoders must be CLIP's alone (SD 1.x, SD 2.x, SDXL)"
    assert prompts.report() == f"Nothing bound: {supported}, got {found}."


def test_text_encoders_with_other_tokens_are_refused(new_prompts):
    model = sd1()
    model.encoders[0].id_end = 1  # type: ignore[misc]
    prompts, cond = new_prompts(), encode(sd1(), [COLOURS], 10)
    prompts.prepare(new_job(model, [COLOURS]), cond)
    assert prompts.notes == ["Nothing bound: text encoders must be CLIP's alone (SD 1.x, SD 2.x, SDXL), got Model."]


def test_the_old_way_to_cut_prompts_is_named(new_prompts, extension, monkeypatch):
    monkeypatch.setattr(extension[1].opts, "use_old_emphasis_implementation", True, raising=False)
    model, prompts = sd1(), new_prompts()
    prompts.prepare(new_job(model, [COLOURS]), encode(model, [COLOURS], 10))
    assert "switch the old emphasis implementation off" in prompts.report()


@pytest.mark.parametrize(
    "others", [["a red circle AND a blue square"], [COLOURS, COLOURS], ["a [red:blue:0.5] circle"]]
)
def test_a_batch_that_another_extension_made_is_left_as_it_is_and_named(new_prompts, others):
    model = sd1()
    cond, prompts = encode(model, others, 10), new_prompts()
    given = params(new_job(model, [COLOURS]), cond)
    own = given.text_cond
    prompts.apply(given)
    assert given.text_cond is own
    assert prompts.notes == ["Nothing bound: another extension gives the sampler prompts of its own."]


def test_a_step_in_which_another_extension_replaced_the_prompt_is_left_as_it_is(new_prompts):
    model, prompts = sd1(), new_prompts()
    job, cond = new_job(model, [COLOURS]), encode(model, [COLOURS], 10)
    given = params(job, cond)
    given.text_cond = other = given.text_cond + 1
    prompts.apply(given)
    assert given.text_cond is other and prompts.step is None
    assert prompts.notes == ["Nothing bound: another extension gives the sampler prompts of its own."]
    assert not torch.equal(applied(prompts, job, cond, 1), other)


def test_an_error_of_the_host_costs_no_picture_and_is_named_once(new_prompts):
    model, prompts = sd1(), new_prompts()
    job, cond = new_job(model, [COLOURS]), encode(model, [COLOURS], 10)
    tried = []

    def fail(*given):
        tried.append(given)
        raise RuntimeError("out of memory")

    model.encoders[0].process_tokens = fail  # type: ignore[method-assign]
    for step in range(2):
        given = params(job, cond, step)
        own = given.text_cond
        prompts.apply(given)
        assert given.text_cond is own
    assert prompts.report() == "Nothing bound: RuntimeError: out of memory."
    assert len(tried) == 1


def test_a_sampler_that_keeps_no_prompts_is_let_alone(new_prompts):
    given = params(new_job(sd1(), []), encode(sd1(), [COLOURS], 10))
    given.denoiser.sampler.sampler_extra_args = None
    own = given.text_cond
    new_prompts().apply(given)
    assert given.text_cond is own


def test_forges_text_encoders_are_loaded_before_they_encode(new_prompts, monkeypatch):
    import sys
    from types import SimpleNamespace

    loaded = []
    monkeypatch.setitem(sys.modules, "backend.memory_management", SimpleNamespace(load_model_gpu=loaded.append))
    model = sd1()
    model.forge_objects = SimpleNamespace(clip=SimpleNamespace(patcher="the patcher"))  # type: ignore[attr-defined]
    job, cond = new_job(model, [COLOURS]), encode(model, [COLOURS], 10)
    new_prompts(ends="off").prepare(job, cond)
    assert loaded == []
    new_prompts().prepare(job, cond)
    assert loaded == ["the patcher"]


def test_a_model_that_is_kept_in_main_memory_is_brought_by_its_own_hooks(new_prompts):
    model, calls = sd1(), []
    model.lowvram, model.get_learned_conditioning = True, calls.append  # type: ignore[attr-defined]
    new_prompts().prepare(new_job(model, [COLOURS]), encode(model, [COLOURS], 10))
    assert calls == [[""]]
