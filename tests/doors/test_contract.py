"""What every door of the speed room promises alike."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.doors.doors import DOORS, Patcher
from tests.hosts.fake import host
from tome_core.speed import SpeedConfig, doors
from tome_core.speed.doors.patcher import patch_speed
from tome_core.speed.plans import run

every_door = pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
FORMS = [
    {},
    {"parts": ("attention", "cross_attention", "mlp"), "levels": (1, 2), "mlp_ratio": 0.25},
    {"parts": "block", "levels": (1, 2), "matching": "window"},
    {"parts": "stack"},
    {"kv_ratio": 0.75},
    {"kv_downsample": 2, "ratio": 0},
    {"metric": "block"},
    {"refresh": 3, "proportional": True},
]
every_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())) or "default")


@every_door
def test_a_neutral_config_installs_nothing_and_is_bit_identical(door, traces):
    model = door.new_model()
    plain, before = door.sample(model), traces(door.network(model))
    merging = door.merge(model, SpeedConfig(ratio=0))
    assert torch.equal(merging.sample(), plain)
    assert traces(door.network(model)) == before
    assert merging.report.notes == ["ratio 0 leaves the model untouched: nothing is installed"]


@every_door
@every_form
def test_tokens_merge_and_nothing_stays(door, form, traces):
    model = door.new_model()
    plain, before = door.sample(model), traces(door.network(model))
    merging = door.merge(model, SpeedConfig(**form))
    merged = merging.sample()
    assert not torch.equal(merged, plain)
    merging.close()
    assert traces(door.network(model)) == before
    assert torch.equal(door.sample(model), plain)
    assert (merging.report.merged_calls, merging.report.untouched_calls) == (3, 0)


@every_form
def test_every_door_merges_as_many_tokens_and_says_the_same(form):
    reports = []
    for door in DOORS:
        merging = door.merge(door.new_model(), SpeedConfig(**form))
        merging.sample(size=(15, 18), steps=12)
        merging.close()
        reports.append(merging.report)
    first, *others = reports
    for report in others:
        assert [level.kept for level in report.levels] == [level.kept for level in first.levels]
        assert [(level.level, level.downsample) for level in report.levels] == [(1, 1), (2, 2)]
        assert (report.metric, report.blind_calls) == (first.metric, first.blind_calls)
    assert [report.notes for report in reports] == [first.notes] * len(DOORS)


@every_form
def test_doors_of_one_network_give_one_picture(form):
    pictures = []
    for door in DOORS[1:]:
        merging = door.merge(door.new_model(), SpeedConfig(**form))
        pictures.append(merging.sample(steps=12, batch=2))
        merging.close()
    for picture in pictures[1:]:
        torch.testing.assert_close(picture, pictures[0], rtol=1e-3, atol=1e-3)


def test_one_latent_has_one_plan_in_every_door(monkeypatch):
    made, make_plan = [], run.make_plan

    def collect(*args):
        made.append(make_plan(*args))
        return made[-1]

    monkeypatch.setattr(run, "make_plan", collect)
    for door in DOORS:
        merging = door.merge(door.new_model(), SpeedConfig(metric="latent", levels=(1, 2)))
        merging.sample(steps=1)
        merging.close()
    plans = [plan.assignment for plan in made]
    assert len(plans) == 2 * len(DOORS)
    for level in (0, 1):
        assert all(torch.equal(plan, plans[level]) for plan in plans[level::2])


@every_door
def test_a_compiled_model_is_matched_on_its_estimate_and_the_report_says_so(door):
    torch.compiler.reset()
    merging = door.merge(door.compiled(door.new_model()), SpeedConfig(metric="block"))
    merging.sample()
    assert merging.report.metric == "estimate" and merging.report.merged_calls == 3
    assert "metric block is inside the compiled model: estimate is used instead" in merging.report.notes
    merging.close()
    torch.compiler.reset()


@every_door
def test_only_the_chosen_part_of_a_run_merges(door):
    merging = door.merge(door.new_model(), SpeedConfig(start_percent=0.3, end_percent=0.8))
    merging.sample(steps=10)
    merging.close()
    assert (merging.report.merged_calls, merging.report.untouched_calls) == (5, 5)


@every_door
def test_a_small_level_stays_untouched_and_says_so(door):
    merging = door.merge(door.new_model(), SpeedConfig(levels=(1, 2), min_tokens=100))
    merging.sample()
    merging.close()
    assert merging.report.levels[0].kept == {(16, 16): {"attention": 128}}
    assert merging.report.levels[1].kept == {}
    assert merging.report.notes[-1].startswith("level 2: 8x8 tokens are fewer than min_tokens 100, nothing merges")


@every_door
def test_a_level_that_the_model_lacks_is_refused_before_any_work(door, traces):
    model = door.new_model()
    before = traces(door.network(model))
    with pytest.raises(ValueError, match=r"levels must be among \(1, 2\) on this \w+, got \(3,\)"):
        door.merge(model, SpeedConfig(levels=3))
    assert traces(door.network(model)) == before


@every_door
def test_families_are_named_alike(door):
    assert door.family(door.new_model()) == "sd1"


@every_door
@pytest.mark.parametrize("form", [{}, {"parts": "block"}, {"refresh": 2}], ids=str)
def test_a_run_that_fails_leaves_nothing_and_the_next_one_is_right(door, form, traces):
    model = door.new_model()
    before = traces(door.network(model))
    merging = door.merge(model, SpeedConfig(**form))
    expected, calls = merging.sample(), []

    def fail(module: nn.Module, args: object) -> None:
        calls.append(module)
        if len(calls) == 2:
            raise InterruptedError("stopped by the artist")

    deep = [module for name, module in door.network(model).named_modules() if name.endswith("attn2.to_q")][-1]
    hook = deep.register_forward_pre_hook(fail)
    with pytest.raises(InterruptedError):
        merging.sample()
    hook.remove()
    assert torch.equal(merging.sample(), expected)
    merging.close()
    assert traces(door.network(model)) == before


@every_door
@pytest.mark.parametrize("form", [{}, {"parts": "block", "refresh": 2}], ids=str)
@pytest.mark.parametrize("seed", [0, 9])
def test_a_preview_between_two_steps_changes_nothing(door, form, seed):
    merging = door.merge(door.new_model(), SpeedConfig(**form))
    alone, preview = merging.sample(steps=8), merging.sample(steps=2, seed=seed)
    previews = []

    def look(step: int) -> None:
        if step > 0:
            previews.append(merging.sample(steps=2, seed=seed))

    watched = merging.sample(steps=8, on_step=look)
    merging.close()
    assert torch.equal(watched, alone)
    assert len(previews) == 7 and all(torch.equal(each, preview) for each in previews)


@every_door
@pytest.mark.parametrize("form", [{}, {"parts": "block", "refresh": 2}, {"metric": "block"}], ids=str)
def test_threads_on_one_network_never_see_each_other(door, form):
    merging = door.merge(door.new_model(), SpeedConfig(**form))
    sizes = [(16, 16), (12, 16), (9, 7)]
    alone, got = [merging.sample(size=size, steps=5) for size in sizes], {}
    started = threading.Barrier(len(sizes))

    def draw(number: int) -> None:
        started.wait()
        got[number] = merging.sample(size=sizes[number], steps=5)

    threads = [threading.Thread(target=draw, args=(number,)) for number in range(len(sizes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    merging.close()
    assert all(torch.equal(got[number], alone[number]) for number in range(len(sizes)))


def test_fifty_random_pairs_of_sizes_and_configs_on_one_network_in_two_threads_are_each_as_alone():
    model, chance = host.new_model(), random.Random(0)
    for _ in range(50):
        jobs = []
        for _ in range(2):
            form = {**chance.choice(FORMS), "ratio": chance.choice([0.25, 0.5, 0.75])}
            clone, _ = patch_speed(model, SpeedConfig(**form))
            size = chance.randint(4, 12), chance.randint(4, 12)
            jobs.append((form, partial(host.sample, clone, size=size, steps=3, seed=chance.randrange(3))))
        alone, started = [job() for _, job in jobs], threading.Barrier(2)

        def together(
            job: tuple[dict, Callable[[], torch.Tensor]], started: threading.Barrier = started
        ) -> torch.Tensor:
            started.wait()
            return job[1]()

        with ThreadPoolExecutor(2) as pool:
            got = list(pool.map(together, jobs))
        assert all(map(torch.equal, got, alone)), [form for form, _ in jobs]


@pytest.mark.parametrize("form", [{}, {"parts": "block", "refresh": 3}, {"refresh": 3, "metric": "latent"}], ids=str)
def test_a_host_may_evaluate_prompt_and_empty_prompt_in_two_threads(form, monkeypatch):
    """As ComfyUI does on several devices."""
    door = Patcher()
    expected = door.merge(door.new_model(), SpeedConfig(**form)).sample(steps=12, together=False)
    apply = host.Guider._apply

    def in_thread(*given):
        found = []
        thread = threading.Thread(target=lambda: found.append(torch.inference_mode()(apply)(*given)))
        thread.start()
        thread.join()
        return found[0]

    monkeypatch.setattr(host.Guider, "_apply", in_thread)
    merging = door.merge(door.new_model(), SpeedConfig(**form))
    assert torch.equal(merging.sample(steps=12, together=False), expected)
    assert merging.report.merged_calls == 24


@pytest.mark.parametrize(
    "door", [door for door in DOORS if door.name in ("diffusers", "modules")], ids=lambda x: x.name
)
@pytest.mark.parametrize("replaces", [False, True], ids=["close", "another one"])
def test_what_ends_while_another_thread_is_in_a_block_leaves_that_thread_alone(door, replaces, traces):
    model = door.new_model()
    before = traces(door.network(model))
    merging = door.merge(model, SpeedConfig(parts="block"))
    expected = merging.sample(steps=1)
    inside, ended, got = threading.Event(), threading.Event(), []

    def wait(module: nn.Module, args: object) -> None:
        if not inside.is_set():
            inside.set()
            assert ended.wait(20)

    deep = next(module for name, module in door.network(model).named_modules() if name.endswith("attn1.to_q"))
    hook = deep.register_forward_pre_hook(wait)
    thread = threading.Thread(target=lambda: got.append(merging.sample(steps=1)))
    thread.start()
    assert inside.wait(20)
    later = door.merge(model, SpeedConfig(ratio=0.25)) if replaces else None
    merging.close()
    ended.set()
    thread.join()
    hook.remove()
    assert torch.equal(got[0], expected)
    if later is not None:
        assert not torch.equal(later.sample(steps=1), expected)
        later.close()
    assert traces(door.network(model)) == before


@every_door
@every_form
def test_an_image_is_the_same_alone_and_in_a_batch(door, form):
    merging = door.merge(door.new_model(), SpeedConfig(**form))
    pair = merging.sample(batch=2, size=(12, 10))
    alone = merging.sample(batch=1, size=(12, 10))
    merging.close()
    assert ((pair[:1] - alone).norm() / alone.norm()).item() < 1e-4


def test_there_is_a_row_for_every_door():
    folder = Path(doors.__file__).parent
    beside = {"__init__", "schedulers", "patches"}  # what doors share or read
    assert {path.stem for path in folder.glob("*.py")} - beside <= {door.name for door in DOORS}


in_hosts = pytest.mark.parametrize("door", [x for x in DOORS if x.name in ("patcher", "forge")], ids=lambda x: x.name)


@in_hosts
@pytest.mark.parametrize("place", ["merge_tokens", "add_unmerged"])
def test_in_a_host_an_error_of_merging_costs_no_picture(door, place, traces, monkeypatch):
    def fail(*given: object) -> None:
        raise NotImplementedError("no such operation on this device")

    model = door.new_model()
    before, plain = traces(door.network(model)), door.sample(model)
    merging = door.merge(model, SpeedConfig(parts="block"))
    monkeypatch.setattr(f"tome_core.speed.engine.hooks.{place}", fail)
    assert torch.equal(merging.sample(), plain)
    assert merging.report.merged_calls == 0
    assert any("gave up" in note and "no such operation" in note for note in merging.report.notes)
    assert traces(door.network(model)) == before


@in_hosts
def test_in_a_host_a_want_of_memory_is_its_own_business(door, monkeypatch):
    def fail(*given: object) -> None:
        raise torch.cuda.OutOfMemoryError("out of memory")

    merging = door.merge(door.new_model(), SpeedConfig(parts="block"))
    monkeypatch.setattr("tome_core.speed.engine.hooks.merge_tokens", fail)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        merging.sample()
