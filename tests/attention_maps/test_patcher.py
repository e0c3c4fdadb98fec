"""Maps through the patcher protocol, on a host written for tests: which rows, which pixels, which run."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.attention_maps.fake_sampling import Patcher, bound, entry, new_model, run
from tests.hosts.fake.unet import HEADS
from tome_core.attention_maps import MapShelf, Phrase, attention_maps, collect_maps, patcher, resize
from tome_core.errors import UnsupportedModelError
from tome_core.merging import MergePlan, window_matching
from tome_core.speed import SpeedConfig
from tome_core.speed.doors.patcher import patch_speed


def collected(positive, model=None, **settings):
    patched, shelf = collect_maps(model or new_model())
    found, notes = shelf.maps(run(patched, positive, **settings))
    assert found is not None and notes == [], notes
    return found


def test_maps_are_the_mean_over_layers_of_what_the_phrases_rows_draw():
    model, positive, expected = new_model(), entry(bound()), []
    watched = model.clone()

    def watch(n, context, value, options):
        layer = {("input", 1): 0, ("input", 3): 0}.get(options["block"])
        height, width = options["activations_shape"][2:]
        network = watched.model.diffusion_model
        stages = {"input": network.input_blocks, "output": network.output_blocks}
        name, number = options["block"]
        stage = network.middle_block if name == "middle" else stages[name][number]
        attention = stage[1].transformer_blocks[layer or options["block_index"]].attn2
        maps = attention_maps(attention.to_q(n), attention.to_k(context), HEADS, [3, 7]).unflatten(2, (height, width))
        expected.append(resize(maps, (12, 10)))
        return n, context, value

    watched.set_model_attn2_patch(watch)
    run(watched, [positive], cfg=1)
    found = collected([positive], model, cfg=1)
    assert found.labels == ("circle", "square") and found.calls == len(expected) == 15
    assert torch.allclose(found.maps, torch.stack(expected).mean(0), atol=1e-5)


def test_collecting_changes_no_bit_and_leaves_nothing_on_the_model(traces):
    model, positive = new_model(), [entry(bound())]
    plain, before = run(model, positive), traces(model.model.diffusion_model)
    patched, _ = collect_maps(model)
    assert patched.wrappers and patched.model_options["transformer_options"]["patches"]
    assert torch.equal(run(patched, positive), plain)
    assert traces(model.model.diffusion_model) == before
    assert not model.wrappers and model.model_options == {"transformer_options": {}}
    assert "tome_maps" not in patched.model_options["transformer_options"]


def test_a_run_that_fails_puts_nothing_on_the_shelf():
    patched, shelf = collect_maps(new_model())

    def fail(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(patched, [entry(bound())], callback=fail)
    assert shelf.maps()[0] is None


@pytest.mark.parametrize("size", [(12, 10), (7, 5), (16, 8)])
@pytest.mark.parametrize("batch", [1, 3])
def test_maps_have_the_shape_of_the_finest_grid(size, batch):
    found = collected([entry(bound())], size=size, batch=batch)
    assert found.maps.shape == (batch, 2, *size)
    assert bool((found.maps >= 0).all()) and bool((found.maps <= 1).all())


def test_an_image_has_the_same_maps_alone_and_in_a_batch():
    positive = [entry(bound())]
    batch = collected(positive, batch=3).maps
    for number in range(3):
        assert torch.allclose(collected(positive, seed=number).maps[0], batch[number], atol=1e-4)


def test_prompt_and_empty_prompt_together_or_apart_give_the_same_maps():
    positive = [entry(bound())]
    assert torch.allclose(collected(positive).maps, collected(positive, together=False).maps, atol=1e-5)


@pytest.mark.parametrize(("own", "other"), [(77, 154), (154, 77), (77, 231)])
def test_rows_that_are_repeated_beside_a_longer_prompt_count_together(own, other):
    positive = [entry(bound(), rows=own)]
    negative = [entry(seed=2, rows=other)]
    beside = collected(positive, negative=negative, steps=1).maps
    assert torch.allclose(beside, collected(positive, steps=1, cfg=1).maps, atol=1e-5)


def test_groups_on_the_negative_prompt_have_no_maps():
    patched, shelf = collect_maps(new_model())
    latent = run(patched, [entry()], [entry(bound(), seed=2)])
    found, notes = shelf.maps(latent)
    assert found is None and notes[0].startswith("No maps: the positive prompt of this run has no groups. Bind ")


def test_a_positive_entry_that_the_host_copies_to_the_other_side_counts_once():
    positive = entry(bound())
    found = collected([positive], negative=[positive], steps=1)
    assert torch.allclose(found.maps, collected([positive], steps=1, cfg=1).maps, atol=1e-5)


def test_two_prompts_have_their_phrases_one_after_another():
    other = bound(Phrase("star", (3,)))
    found = collected([entry(bound()), entry(other, seed=5)])
    assert found.labels == ("circle", "square", "star") and found.maps.shape[1] == 3


def test_a_prompt_in_an_area_has_maps_inside_of_it_alone():
    positive = [entry(bound(), area=(6, 10, 6, 0)), entry(seed=4)]
    found = collected(positive)
    assert found.maps[:, :, :6].abs().max() == 0 and found.maps[:, :, 6:].min() > 0


@pytest.mark.parametrize("area", [(32, 24, 16, 0), (64, 64, 0, 0), (60, 100, 6, 0), (10, 6, 20, 12), (8, 64, 0, 7)])
def test_an_area_that_reaches_over_the_picture_is_where_the_host_cuts_it_off(area):
    height, width, top, left = area
    cut = (min(height, 32 - top), min(width, 24 - left), top, left)
    found = collected([entry(bound(), area=area), entry(seed=4)], size=(32, 24))
    inside = torch.zeros(32, 24, dtype=torch.bool)
    inside[cut[2] : cut[2] + cut[0], cut[3] : cut[3] + cut[1]] = True
    assert found.maps.shape[-2:] == (32, 24)
    assert found.maps[..., inside].min() > 0 and (found.maps[..., ~inside] == 0).all()
    exact = collected([entry(bound(), area=cut), entry(seed=4)], size=(32, 24))
    assert torch.allclose(found.maps, exact.maps, atol=1e-6)


def test_one_prompt_in_two_areas_has_one_map_of_both():
    prompt = bound()
    found = collected([entry(prompt, area=(6, 10, 0, 0)), entry(prompt, area=(6, 10, 6, 0))])
    assert found.labels == ("circle", "square") and found.maps.min() > 0


def test_a_pack_that_replaces_cross_attention_leaves_the_maps():
    model = new_model()
    for block in (("input", 1), ("input", 3), ("middle", 0), ("output", 0), ("output", 2)):
        model.set_model_attn2_replace(lambda q, k, v, options: q, *block)
    assert collected([entry(bound())], model).calls == 15


@pytest.mark.parametrize("parts", ["attention", "cross_attention", "block", "stack"])
@pytest.mark.parametrize("before", [True, False])
def test_maps_are_whole_where_image_tokens_merge(parts, before):
    config, positive = SpeedConfig(parts=parts, levels=(1, 2)), [entry(bound())]
    model = new_model()
    if before:
        patched, shelf = collect_maps(patch_speed(model, config)[0])
    else:
        patched, shelf = collect_maps(model)
        patched = patch_speed(patched, config)[0]
    found, notes = shelf.maps(run(patched, positive))
    assert found is not None and notes == [] and found.calls == 15


@pytest.mark.parametrize("parts", ["attention", "cross_attention", "block", "stack"])
@pytest.mark.parametrize("before", [True, False])
def test_collecting_changes_no_bit_where_image_tokens_merge(parts, before):
    config, positive = SpeedConfig(parts=parts, levels=(1, 2)), [entry(bound())]
    model = new_model()
    merged = run(patch_speed(model, config)[0], positive)
    assert not torch.equal(merged, run(model, positive))
    patched = (
        collect_maps(patch_speed(model, config)[0])[0] if before else patch_speed(collect_maps(model)[0], config)[0]
    )
    assert torch.equal(run(patched, positive), merged)


def merging(model, plan_of=None):
    """Merge in front of each cross-attention, as `patch_speed` does; return the plans as they come."""
    plans = []  # reached by functions alone: the host copies what hangs on objects

    def merge(n, context, value, options):
        height, width = options["activations_shape"][2:]
        plans.append(window_matching(n, height, width, 3 * n.shape[1] // 5))
        return plans[-1].merge(n), context, value

    model.set_model_attn2_patch(merge)
    model.set_model_patch(lambda n, options: plans[-1].unmerge(n), "attn2_output_patch")
    model.model_options["transformer_options"]["tome_speed_merged"] = plan_of or (lambda options: plans[-1])
    return plans


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("together", [True, False])
def test_each_row_is_unmerged_by_its_own_row_of_the_plan(batch, together):
    model, positive, expected = new_model(), entry(bound()), []
    plans = merging(model)

    def watch(n, context, value, options):
        height, width = options["activations_shape"][2:]
        name, number = options["block"]
        network = model.model.diffusion_model
        stages = {"input": network.input_blocks, "output": network.output_blocks}
        stage = network.middle_block if name == "middle" else stages[name][number]
        attention = stage[1].transformer_blocks[options["block_index"]].attn2
        if 0 in options["cond_or_uncond"]:
            place = options["cond_or_uncond"].index(0)
            maps = attention_maps(attention.to_q(n), attention.to_k(context), HEADS, [3, 7])  # [rows, 2, M]
            maps = plans[-1].unmerge(maps.transpose(1, 2)).transpose(1, 2)
            own = maps[place * batch : (place + 1) * batch].unflatten(2, (height, width))
            expected.append(resize(own, (12, 10)))
        return n, context, value

    model.set_model_attn2_patch(watch)
    found = collected([positive], model, batch=batch, together=together)
    assert all(plan.kept < plan.tokens for plan in plans)
    assert not torch.equal(plans[-1].assignment[0], plans[0].assignment[0])
    assert found.calls == len(expected) == 15
    assert torch.allclose(found.maps, torch.stack(expected).mean(0), atol=1e-5)


@pytest.mark.parametrize("plan", [None, MergePlan.identity(2, 48), MergePlan.identity(1, 120)])
def test_merged_tokens_without_a_plan_of_theirs_are_left_out_and_named(plan):
    model = new_model()
    merging(model, lambda options: plan)
    patched, shelf = collect_maps(model)
    found, notes = shelf.maps(run(patched, [entry(bound())]))
    assert found is None and "48 tokens on a grid of 12 x 10 were left out" in notes


def test_a_plan_is_asked_for_merged_tokens_alone():
    model, asked = new_model(), []
    model.model_options["transformer_options"]["tome_speed_merged"] = asked.append
    assert collected([entry(bound())], model).calls == 15
    assert asked == []


def test_the_patch_tells_the_speed_room_that_it_takes_merged_tokens():
    patched, _ = collect_maps(new_model())
    (patch,) = patched.model_options["transformer_options"]["patches"]["attn2_patch"]
    assert patch.takes_merged_tokens is True


def test_tokens_that_another_pack_merged_before_are_left_out_and_named():
    model = new_model()
    model.set_model_attn2_patch(lambda n, context, value, options: (n[:, ::2], context, value))
    model.set_model_patch(lambda n, options: n.repeat_interleave(2, 1), "attn2_output_patch")
    patched, shelf = collect_maps(model)
    found, notes = shelf.maps(run(patched, [entry(bound())], size=(12, 8)))
    assert found is None and "48 tokens on a grid of 12 x 8 were left out" in notes


def test_each_step_tells_the_maps_so_far_and_the_samplers_own_callback_still_runs():
    steps, own = [], []
    patched, _ = collect_maps(new_model(), on_step=lambda step, total, maps: steps.append((step, total, maps.calls)))
    run(patched, [entry(bound())], callback=lambda *given: own.append(given[0]))
    assert steps == [(0, 3, 5), (1, 3, 10), (2, 3, 15)] and own == [0, 1, 2]


def test_a_latent_finds_its_run_among_the_last_ones():
    patched, shelf = collect_maps(new_model())
    first, second = (run(patched, [entry(bound())], seed=seed) for seed in (1, 2))
    one, two = (shelf.maps(latent)[0] for latent in (first, second))
    assert one is not None and two is not None and not torch.equal(one.maps, two.maps)
    found, notes = shelf.maps(second + 1)
    assert found is two
    assert notes == ["No sampler of this model returned this latent: these are the maps of its last run."]


def test_without_a_latent_every_look_tells_which_of_several_runs_it_is():
    patched, shelf = collect_maps(new_model())
    latent = run(patched, [entry(bound())], seed=0)
    assert shelf.maps()[1] == []
    notes = []
    for seed in range(1, 5):
        run(patched, [entry(bound())], seed=seed)
        notes.append(shelf.maps()[1])
        assert shelf.maps()[1] == notes[-1]
    how = "Connect a latent to choose."
    assert notes[0] == [f"Maps of run 2 on this model, 1 earlier one is kept. {how}"]
    assert notes[1] == [f"Maps of run 3 on this model, 2 earlier ones are kept. {how}"]
    assert notes[3] == [f"Maps of run 5 on this model, 3 earlier ones are kept. {how}"]
    assert shelf.maps(latent)[1][0].startswith("No sampler of this model returned this latent")
    assert shelf.maps(run(patched, [entry(bound())], seed=9))[1] == []


def test_a_run_may_end_while_the_shelf_is_read(monkeypatch):
    patched, shelf = collect_maps(new_model())
    latents = [run(patched, [entry(bound())], seed=seed) for seed in (1, 2)]
    first = shelf.maps(latents[0])[0]
    empty: Any = SimpleNamespace(result=lambda: None, notes=())

    class Name(str):
        def __eq__(self, other):
            shelf.put(latents[1], empty)  # as from a sampler's thread
            return str.__eq__(self, other)

    names = iter([Name(patcher._name(latents[0]))])
    real = patcher._name
    monkeypatch.setattr(patcher, "_name", lambda latent: next(names, None) or real(latent))
    assert shelf.maps(latents[0]) == (first, [])


def test_collecting_twice_replaces_the_first():
    once, first = collect_maps(new_model())
    twice, second = collect_maps(once)
    latent = run(twice, [entry(bound())])
    assert first.maps(latent)[0] is None and second.maps(latent)[0] is not None
    assert len(twice.model_options["transformer_options"]["patches"]["attn2_patch"]) == 1


def test_a_run_is_not_copied_with_the_options_it_is_in():
    patched, _ = collect_maps(new_model())
    copies = []
    patched.set_model_attn2_patch(lambda n, c, v, options: (copies.append(copy.deepcopy(options)), (n, c, v))[1])
    run(patched, [entry(bound())], steps=1)
    assert len({id(options["tome_maps"]) for options in copies}) == 1


def test_a_model_without_cross_attention_is_named():
    with pytest.raises(UnsupportedModelError, match=r"^model must be a UNet with cross-attention .*, got Linear$"):
        collect_maps(Patcher(type("Model", (), {"diffusion_model": torch.nn.Linear(1, 1)})()))
    assert MapShelf("model must be a UNet").maps() == (None, ["No maps: model must be a UNet"])
