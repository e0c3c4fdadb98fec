"""Token merging beside the patches of other packs: they see every token, or merging steps aside and says so."""

import copy

import pytest
import torch

from tome_core.speed import SpeedConfig
from tome_core.speed.doors.patcher import patch_speed

EVERYTHING = {"parts": ("attention", "cross_attention", "mlp")}
FULL = {256, 64, 16, 4}  # tokens of the levels of a 16 x 16 latent


def noted(report, words):
    return any(words in note for note in report.notes)


def add_second_merger(model):
    """Merge as packs do that shorten q in front of self-attention and restore it behind, by state of their own."""
    shortened = []

    def merge(q, k, v, options):
        shortened.append(q.shape[1])
        return q[:, ::2], k, v

    def unmerge(n, options):
        return n.repeat_interleave(2, dim=1)[:, : shortened.pop()]

    clone = model.clone()
    clone.set_model_attn1_patch(merge)
    clone.set_model_attn1_output_patch(unmerge)
    return clone


@pytest.mark.parametrize("is_first", [False, True])
@pytest.mark.parametrize("form", [{}, {"parts": "block"}, {"kv_ratio": 0.5}])
def test_a_second_token_merger_merges_alone(host, form, is_first):
    model = host.new_model()
    theirs = host.sample(add_second_merger(model))
    if is_first:
        clone, report = patch_speed(add_second_merger(model), SpeedConfig(**form))
    else:
        clone, report = patch_speed(model, SpeedConfig(**form))
        clone = add_second_merger(clone)
    got = host.sample(clone)
    assert noted(report, "attention ran unmerged, it got")
    if form != {"parts": "block"}:  # whose MLP merges all the same
        assert torch.allclose(got, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))
    else:
        assert report.merged_calls > 0 and not torch.equal(got, theirs)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("form", [EVERYTHING, {"parts": "block"}, {"parts": "stack"}])
def test_a_replaced_attention_gets_every_token(host, form, number):
    clone, report = patch_speed(host.new_model(), SpeedConfig(**form))
    seen = []

    def replace(q, k, v, options):
        seen.append(q.shape[1])
        return q

    clone = clone.clone()
    getattr(clone, f"set_model_attn{number}_replace")(replace, "input", 1)
    host.sample(clone)
    assert set(seen) == {256}
    assert noted(report, f"another pack replaces attn{number} in block input 1")
    assert report.merged_calls > 0


def compiled(model):
    """Return a clone that hosts take for one whose network will be compiled."""
    clone = model.clone()
    clone.add_wrapper_with_key("apply_model", "torch.compile", lambda executor, *given, **named: executor(*given))
    return clone


@pytest.mark.parametrize("number", [1, 2])
def test_a_replaced_attention_gets_every_token_in_a_compiled_network_too(host, number):
    clone, report = patch_speed(host.new_model(), SpeedConfig(parts=("attention", "cross_attention")))
    seen = []

    def replace(q, k, v, options):
        seen.append(q.shape[1])
        return q

    clone = compiled(clone)
    getattr(clone, f"set_model_attn{number}_replace")(replace, "input", 1)
    host.sample(clone)
    assert set(seen) == {256}
    assert noted(report, f"another pack replaces attn{number} in block input 1") and report.merged_calls > 0


@pytest.mark.parametrize(
    "form", [{}, {"kv_ratio": 0.75}, {"kv_downsample": 2, "ratio": 0}, {"parts": "cross_attention"}]
)
def test_patches_of_a_compiled_network_merge_as_hooks_do(host, form):
    clone, _ = patch_speed(host.new_model(), SpeedConfig(**form))
    expected = host.sample(clone)
    assert torch.allclose(host.sample(compiled(clone)), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("is_compiled", [False, True])
def test_options_that_a_pack_copies_in_the_middle_of_a_run_merge_alike(host, is_compiled):
    clone, report = patch_speed(host.new_model())
    if is_compiled:
        clone = compiled(clone)
    expected = host.sample(clone)

    def copying(executor, *given, **named):
        *given, options = given
        return executor(*given, copy.deepcopy(options) if isinstance(options, dict) else options, **named)

    clone = clone.clone()
    clone.add_wrapper_with_key("diffusion_model", "copies", copying)
    assert torch.equal(host.sample(clone), expected)
    assert report.untouched_calls == 0


@pytest.mark.parametrize("name", ["attn1_patch", "attn2_patch"])
@pytest.mark.parametrize("form", [EVERYTHING, {"parts": "block"}])
@pytest.mark.parametrize("is_first", [False, True])
def test_patches_in_front_of_an_attention_see_every_token(host, form, name, is_first):
    seen = []

    def look(q, k, v, options):
        seen.append(q.shape[1])
        return q, k, v

    model = host.new_model()
    if is_first:
        model = model.clone()
        model.set_model_patch(look, name)
    clone, report = patch_speed(model, SpeedConfig(**form))
    if not is_first:
        clone = clone.clone()
        clone.set_model_patch(look, name)
    host.sample(clone)
    assert set(seen) <= FULL and report.merged_calls > 0
    assert noted(report, "block stepped back to attention and mlp apart") == (form == {"parts": "block"})


@pytest.mark.parametrize("name", ["attn1_output_patch", "middle_patch", "attn2_output_patch"])
@pytest.mark.parametrize("form", [EVERYTHING, {"parts": "block"}])
def test_patches_behind_an_attention_see_every_token(host, form, name):
    clone, report = patch_speed(host.new_model(), SpeedConfig(**form))
    seen = []

    def look(n, options):
        seen.append(n.shape[1])
        return n

    clone = clone.clone()
    clone.set_model_patch(look, name)
    host.sample(clone)
    assert set(seen) <= FULL and report.merged_calls > 0


def test_keys_of_another_pack_stay_and_queries_merge_alone(host):
    def add_reference(q, k, v, options):
        return q, torch.cat([k, k + 1], dim=1), torch.cat([v, v + 1], dim=1)

    model = host.new_model().clone()
    model.set_model_attn1_patch(add_reference)
    clone, report = patch_speed(model)
    counts = set()

    def attend(func, q, k, v, heads, mask=None, **kwargs):
        counts.add((q.shape[1], k.shape[1], v.shape[1]))
        return func(q, k, v, heads, mask=mask, **kwargs)

    clone.model_options["transformer_options"]["optimized_attention_override"] = attend
    assert not torch.equal(host.sample(clone), host.sample(model))
    assert (128, 512, 512) in counts and (256, 512, 512) not in counts
    assert noted(report, "attention merged its queries alone") and report.merged_calls > 0


@pytest.mark.parametrize("rows", [2, 3])
def test_a_patch_that_multiplies_the_rows_of_cross_attention_goes_on(host, rows):
    def regions(q, k, v, options):
        options["their_rows"] = q.shape[0]
        return tuple(x.repeat(rows, 1, 1) for x in (q, k, v))

    def together(n, options):
        return n.unflatten(0, (rows, -1)).mean(dim=0)

    model = host.new_model().clone()
    model.set_model_attn2_patch(regions)
    model.set_model_patch(together, "attn2_output_patch")
    clone, report = patch_speed(model, SpeedConfig(parts=("attention", "cross_attention")))
    alone, _ = patch_speed(model, SpeedConfig(parts="attention"))
    assert torch.equal(host.sample(clone), host.sample(alone))
    assert noted(report, "cross_attention ran unmerged, it got") and report.merged_calls > 0


@pytest.mark.parametrize("form", [EVERYTHING, {"proportional": True}, {"parts": "block", "proportional": True}])
def test_another_attention_in_the_override_slot_is_used(host, form):
    calls = []

    def attend(func, q, k, v, heads, mask=None, **kwargs):
        calls.append(mask)
        return func(q, k, v, heads, mask=mask, **kwargs)

    model = host.new_model().clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = attend
    clone, report = patch_speed(model, SpeedConfig(**form))
    plain, _ = patch_speed(host.new_model(), SpeedConfig(**form))
    assert torch.equal(host.sample(clone), host.sample(plain))
    assert calls and any(mask is not None for mask in calls) == bool(form.get("proportional"))
    assert len(report.notes) == 1 and noted(report, "another pack's attention gets merged tokens")


def test_another_attention_is_no_matter_where_nothing_merges_before_it(host):
    model = host.new_model().clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = lambda func, *a, **k: func(*a, **k)
    clone, report = patch_speed(model, SpeedConfig(parts="mlp"))
    host.sample(clone)
    assert report.merged_calls > 0 and report.notes == []


def test_an_override_that_never_calls_on_leaves_no_weights_behind(host):
    model = host.new_model().clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = lambda func, q, k, v, *_, **__: q
    plain = host.sample(model)
    clone, _ = patch_speed(model, SpeedConfig(proportional=True))
    first = host.sample(clone)
    assert not torch.equal(first, plain) and torch.equal(host.sample(clone), first)
    assert torch.equal(host.sample(model), plain)


@pytest.mark.parametrize("form", [{"metric": "block"}])
def test_a_compiled_clone_changes_no_other_clone(host, form):
    clone, report = patch_speed(host.new_model(), SpeedConfig(**form))
    before = host.sample(clone)
    compiled = clone.clone()
    compiled.add_wrapper_with_key("apply_model", "torch.compile", lambda executor, *given, **named: executor(*given))
    got = host.sample(compiled)
    assert noted(report, "estimate is used instead") and noted(report, "compiling is cut at each block")
    assert not torch.equal(got, before) and torch.equal(host.sample(clone), before)


def test_the_order_of_the_nodes_changes_nothing(host):
    def shift(q, k, v, options):
        return q + 0.1, k, v

    before = host.new_model().clone()
    before.set_model_attn2_patch(shift)
    before, _ = patch_speed(before, SpeedConfig(**EVERYTHING))
    after, _ = patch_speed(host.new_model(), SpeedConfig(**EVERYTHING))
    after = after.clone()
    after.set_model_attn2_patch(shift)
    assert torch.equal(host.sample(before), host.sample(after))
