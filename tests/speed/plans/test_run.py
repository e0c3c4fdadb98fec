"""A sampling run: the plans of its calls, and which run a call belongs to."""

import math
import threading
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tome_core.merging import bipartite_soft_matching_2d
from tome_core.speed import LevelReport, SpeedConfig, SpeedReport
from tome_core.speed.plans.run import ModelCall, SamplingRun, SamplingRuns
from tome_core.speed.plans.schedule import NoiseSchedule, share_of_steps


def new_run(
    *, train_timesteps: int = 1000, key: object = None, is_compiled: bool = False, **settings: Any
) -> SamplingRun:
    config = SpeedConfig(**{"metric": "latent", **settings})
    levels = tuple(LevelReport(level, 2**level, 1, chosen=True) for level in range(1, 5))
    report = SpeedReport("Model", config, config.metric, levels)
    return SamplingRun(config, report, NoiseSchedule(share_of_steps(train_timesteps)), key=key, is_compiled=is_compiled)


def features(batch: int = 2, channels: int = 6, height: int = 8, width: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(seed))


def assignment(
    run: SamplingRun, x: Tensor, timestep: Any = 500, level: int = 1, grid: tuple[int, int] = (8, 8)
) -> Tensor:
    """Return [B, N], the slot of each token, from one model call on latents x."""
    plan = ModelCall(run, x, timestep).plan(level, grid, "attention")
    assert plan is not None
    return plan.assignment


def test_one_plan_serves_every_block_of_a_level_and_every_part_of_one_ratio():
    call = ModelCall(new_run(mlp_ratio=0.25, parts=("attention", "cross_attention", "mlp")), features(), 500)
    plan = call.plan(1, (8, 8), "attention")
    assert call.plan(1, (8, 8), "attention") is plan
    assert call.plan(1, (8, 8), "cross_attention") is plan
    assert call.plan(1, (8, 8), "mlp") is not plan
    assert call.plan(2, (4, 4), "attention") is not plan


def test_a_plan_is_that_of_the_matching_on_the_latent():
    x = features(height=5, width=7)
    expected = bipartite_soft_matching_2d(x.flatten(2).transpose(1, 2), 5, 7, 17)
    assert torch.equal(assignment(new_run(), x, grid=(5, 7)), expected.assignment)


def test_a_coarser_level_is_matched_on_the_mean_of_each_square():
    x = features(height=8, width=12)
    means = x.unflatten(2, (4, 2)).unflatten(4, (6, 2)).mean(dim=(3, 5))
    expected = bipartite_soft_matching_2d(means.flatten(2).transpose(1, 2), 4, 6, 12)
    assert torch.equal(assignment(new_run(), x, grid=(4, 6)), expected.assignment)


@pytest.mark.parametrize("grid", [(5, 17), (3, 9), (2, 5), (1, 3)])
def test_sizes_that_do_not_divide_have_a_plan_of_every_token(grid):
    plan_of = assignment(new_run(), features(height=9, width=33), grid=grid)
    assert plan_of.shape == (2, grid[0] * grid[1])


def test_a_row_is_matched_as_if_it_were_alone():
    x = features(batch=3)
    together = assignment(new_run(), x)
    for row in range(3):
        assert torch.equal(assignment(new_run(), x[row : row + 1]), together[row : row + 1])


def test_rows_with_the_same_latent_merge_alike():
    x = features(batch=2)
    of_all = assignment(new_run(), torch.cat([x, x]))
    assert torch.equal(of_all[:2], of_all[2:])


def test_metric_block_has_no_plan_before_features_are_offered_and_later_ones_replace_it():
    call = ModelCall(new_run(metric="block"), features(), 500)
    assert call.plan(1, (8, 8), "attention") is None
    for seed in (1, 2):
        x = features(seed=seed)
        call.offer(lambda x=x: x)
        plan = call.plan(1, (8, 8), "attention")
        assert plan is not None
        assert torch.equal(plan.assignment, assignment(new_run(), x))
        assert call.plan(1, (8, 8), "attention") is plan


def test_features_that_no_plan_needs_are_never_made():
    def refuse() -> Tensor:
        raise AssertionError("nothing asked for a plan")

    call = ModelCall(new_run(metric="block"), features(), 500)
    call.offer(refuse)
    call.end(None)


def test_plans_stay_after_the_call_and_no_new_one_is_made():
    call = ModelCall(new_run(), features(), 500)
    plan = call.plan(1, (8, 8), "attention")
    call.end(None)
    assert call.plan(1, (8, 8), "attention") is plan
    assert call.plan(2, (4, 4), "attention") is None  # what plans are made from is gone


def test_a_call_whose_plans_are_made_ahead_makes_no_other():
    call = ModelCall(new_run(), features(), 500)
    call.make_ahead([(1, (8, 8), "attention")])
    assert call.is_ahead
    assert call.plan(1, (8, 8), "attention") is not None
    assert call.plan(2, (4, 4), "attention") is None


@given(
    ratio=st.floats(0, 1),
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    stride=st.sampled_from([(2, 2), (1, 2), (3, 1), (2, 4)]),
    matching=st.sampled_from(["bipartite", "window"]),
)
def test_as_many_merge_as_asked_for_or_the_report_says_why_not(ratio, grid, stride, matching):
    run = new_run(ratio=ratio, stride=stride, matching=matching)
    call, tokens = ModelCall(run, features(batch=1), 500), grid[0] * grid[1]
    plan = call.plan(1, grid, "attention")
    assert plan is not None
    call.enter(1, grid, "attention", plan.kept, 16)
    cells = (grid[0] // stride[0]) * (grid[1] // stride[1])
    most = cells * (stride[0] * stride[1] - 1) if matching == "window" or cells == 0 else tokens - cells
    asked = int(tokens * ratio)
    assert tokens - plan.kept == min(asked, most)
    assert plan.sizes.sum() == tokens
    is_short = ratio > 0 and (asked == 0 or asked > most)
    assert any(note.startswith("level 1: ") for note in run.report.notes) == is_short


@pytest.mark.parametrize(("min_tokens", "merges"), [(0, True), (64, True), (65, False)])
def test_a_level_of_fewer_tokens_than_min_tokens_has_no_plan(min_tokens, merges):
    run = new_run(min_tokens=min_tokens)
    call = ModelCall(run, features(), 500)
    for _ in range(2):
        assert (call.plan(1, (8, 8), "attention") is not None) == merges
    sentence = f"level 1: 8x8 tokens are fewer than min_tokens {min_tokens}, nothing merges"
    assert [note.partition(";")[0] for note in run.report.notes] == ([] if merges else [sentence])
    assert ModelCall(run, features(), 500).plan(1, (16, 16), "attention") is not None


@pytest.mark.parametrize(
    ("window", "timestep", "is_active"),
    [
        ((0.0, 1.0), 999, True),
        ((0.2, 0.8), 900, False),
        ((0.2, 0.8), 800, True),
        ((0.2, 0.8), 500.0, True),
        ((0.2, 0.8), torch.tensor(100), False),
        ((0.2, 0.8), torch.tensor([500, 500]), True),
        ((0.2, 0.8), torch.tensor([500, 100]), False),
        ((0.5, 1.0), 0, True),
        ((0.0, 0.5), 1000, True),
    ],
)
def test_merging_is_on_only_in_the_chosen_part_of_the_run(window, timestep, is_active):
    call = ModelCall(new_run(start_percent=window[0], end_percent=window[1]), features(), timestep)
    assert call.is_active == is_active
    assert (call.plan(1, (8, 8), "attention") is not None) == is_active


def test_the_run_is_counted_in_the_models_own_timesteps():
    run = new_run(train_timesteps=100, start_percent=0.5)
    assert not ModelCall(run, features(), 60).is_active
    assert ModelCall(run, features(), 40).is_active


class UnreadableTimestep(Tensor):
    """A tensor on a device that must not be waited for."""

    def tolist(self):
        raise AssertionError("the timestep was read back from its device")

    item = __float__ = __int__ = __bool__ = tolist


def test_the_timestep_is_read_back_only_if_the_config_needs_it():
    timestep = torch.tensor(500.0).as_subclass(UnreadableTimestep)
    call = ModelCall(new_run(), features(), timestep)
    assert call.plan(1, (8, 8), "attention") is not None
    for settings in ({"seed": 1}, {"start_percent": 0.1}, {"metric": "estimate"}, {"refresh": 2}):
        with pytest.raises(AssertionError, match="read back"):
            ModelCall(new_run(**settings), features(), timestep)


def test_a_seed_draws_other_tokens_at_each_step_level_and_seed_and_the_same_ones_again():
    x = features()
    drawn = assignment(new_run(seed=1), x, timestep=500)
    assert torch.equal(assignment(new_run(seed=1), x, timestep=torch.tensor([500, 500])), drawn)
    assert not torch.equal(assignment(new_run(seed=2), x, timestep=500), drawn)
    assert not torch.equal(assignment(new_run(seed=1), x, timestep=501), drawn)
    assert not torch.equal(assignment(new_run(seed=1), x, timestep=500, level=2), drawn)
    assert not torch.equal(assignment(new_run(), x, timestep=500), drawn)


@pytest.mark.parametrize("timestep", [-1.25, 0.0, 0.123, 999.0])
@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_any_seed_and_timestep_can_be_drawn_from(seed, timestep):
    x = features()
    assert torch.equal(assignment(new_run(seed=seed), x, timestep), assignment(new_run(seed=seed), x, timestep))


def test_a_draw_does_not_depend_on_the_neighbours_of_a_row():
    x, timesteps = features(batch=3), torch.tensor([900, 500, 100])
    together = assignment(new_run(seed=1), x, timesteps)
    other = assignment(new_run(seed=1), torch.cat([x[:1], features(batch=1, seed=9)]), torch.tensor([900, 300]))
    assert torch.equal(together[:1], other[:1])


def test_the_global_random_generator_is_neither_read_nor_moved():
    x = features()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = assignment(new_run(seed=1), x)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(assignment(new_run(seed=1), x), first)


def test_a_call_counts_as_merged_only_if_a_part_ran_on_fewer_tokens():
    run = new_run()
    for grid, entered in (((8, 8), True), ((8, 8), False), ((1, 1), True)):
        call = ModelCall(run, features(), 500)
        plan = call.plan(1, grid, "attention")
        if entered and plan is not None:
            call.enter(1, grid, "attention", plan.kept, 16)
        call.end(None)
    assert (run.report.merged_calls, run.report.untouched_calls) == (1, 2)
    call = ModelCall(run, features(), 500)
    call.end(None, has_run=False)  # a cache answered in place of the network
    assert (run.report.merged_calls, run.report.untouched_calls) == (1, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_are_matched_in_float32(dtype):
    x = features().to(dtype)
    assert torch.equal(assignment(new_run(), x), assignment(new_run(), x.float()))


def test_autocast_does_not_change_a_plan():
    x = features(height=16, width=16, channels=64)
    expected = assignment(new_run(), x, grid=(16, 16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(assignment(new_run(), x, grid=(16, 16)), expected)


def test_window_matching_merges_inside_cells_only():
    run = new_run(matching="window", stride=(2, 4))
    slots = assignment(run, features(height=4, width=8), grid=(4, 8))[0].reshape(4, 8)
    cell = torch.arange(2).repeat_interleave(2).unsqueeze(1) * 2 + torch.arange(2).repeat_interleave(4)
    for slot in slots.unique():
        assert len(cell[slots == slot].unique()) == 1


def test_plans_carry_no_gradient():
    plan = ModelCall(new_run(), features().requires_grad_(), 500).plan(1, (8, 8), "attention")
    assert plan is not None
    assert not plan.sizes.requires_grad


@pytest.mark.parametrize(
    ("metric", "is_compiled", "obstacle", "expected"),
    [
        ("estimate", False, None, "estimate"),
        ("estimate", True, None, "estimate"),
        ("block", False, None, "block"),
        ("block", True, None, "estimate"),
        ("block", True, "it is a riddle", "latent"),
        ("estimate", False, "it is a riddle", "latent"),
        ("latent", True, "it is a riddle", "latent"),
    ],
)
def test_similarity_is_measured_where_the_model_allows_it(metric, is_compiled, obstacle, expected):
    config = SpeedConfig(metric=metric)
    report = SpeedReport("Model", config, metric, ())
    schedule = NoiseSchedule(share_of_steps(1000), obstacle=obstacle)
    run = SamplingRun(config, report, schedule, is_compiled=is_compiled)
    assert (run.metric, report.metric) == (expected, expected)
    is_said = any("used instead" in note for note in report.notes)
    assert is_said == (metric != expected)


class Runs:
    """The runs of a thread, each call of which shows the latents that it has by then."""

    def __init__(self, metric: str = "estimate") -> None:
        self.runs, self.metric = SamplingRuns(), metric

    def call(
        self, x: Tensor, timestep: float, key: object = None, text: Tensor | None = None, *, is_announced: bool = False
    ) -> SamplingRun:
        def new() -> SamplingRun:
            return new_run(metric=self.metric, key=key)

        run = self.runs.find(key, x, lambda: [timestep], text, new, is_announced=is_announced)
        ModelCall(run, x, timestep, text).end(torch.zeros_like(x))
        return run


def step(x: Tensor, towards: Tensor) -> Tensor:
    """Return latents after a step that leaves most of the noise in place."""
    return 0.9 * x + 0.1 * towards


def test_a_key_is_one_run_and_another_key_another_whatever_comes_between():
    runs, x = Runs(), features()
    first, second = runs.call(x, 900, key="a"), runs.call(x, 900, key="b")
    assert first is not second
    assert runs.call(x, 800, key="a") is first
    assert runs.call(x, 800, key="b") is second
    assert runs.call(x, 800) not in (first, second)


def test_timesteps_that_go_up_begin_a_run_unless_the_host_announces_each_of_them():
    runs, x = Runs(), features()
    announced, other = runs.call(x, 900, key="a", is_announced=True), runs.call(x, 900, key="b")
    assert runs.call(x, 999, key="a", is_announced=True) is announced
    assert runs.call(x, 999, key="b") is not other


def test_without_keys_timesteps_that_go_up_begin_a_run():
    runs, x = Runs(), features()
    first = runs.call(x, 900)
    assert runs.call(step(x, features(seed=1)), 800) is first
    assert runs.call(x, 800) is first  # the second text of the same step
    assert runs.call(x, 900) is not first


def test_two_runs_of_a_thread_are_told_apart_by_their_latents():
    runs, (a, b) = Runs(), (features(seed=1), features(seed=2))
    first = runs.call(a, 900)
    second = runs.call(b, 950)
    assert first is not second
    for t in (850, 800, 750):
        a, b = step(a, features(seed=3)), step(b, features(seed=4))
        assert runs.call(b, t + 25) is second
        assert runs.call(a, t) is first


def test_runs_of_one_latent_are_told_apart_by_their_texts():
    runs, x, texts = Runs(), features(), [features(seed=7), features(seed=8)]
    first = runs.call(x, 900, text=texts[0])
    second = runs.call(x, 950, text=texts[1])
    x = step(x, features(seed=3))
    assert runs.call(x, 850, text=texts[0]) is first
    assert runs.call(x, 840, text=texts[1]) is second
    assert runs.call(x, 830, text=texts[0][:1]) is first  # a part of the rows


def test_a_run_of_another_size_between_two_steps_is_another_run():
    runs, x, small = Runs(), features(), features(height=4, width=4)
    first, second = runs.call(x, 900), runs.call(small, 999)
    assert runs.call(step(small, features(height=4, width=4, seed=5)), 500) is second
    assert runs.call(step(x, features(seed=1)), 800) is first


def test_a_run_that_failed_is_forgotten():
    runs, x = Runs(), features()
    first = runs.call(x, 900)
    runs.runs.drop(first)
    assert runs.call(x, 800) is not first
    runs.runs.drop(first)  # once more does nothing


def test_a_thread_has_few_runs_under_way_the_latest_ones():
    runs, x = Runs(), features()
    found = [runs.call(x, 900, key=key) for key in range(70)]
    again = [runs.call(x, 800, key=key) is found[key] for key in (69, 40, 6, 0)]
    assert again == [True, True, True, False]


@pytest.mark.parametrize("images", [2, 24])
def test_images_that_are_drawn_one_by_one_are_known_in_the_next_step_however_many_they_are(images):
    runs, x = Runs(), features(batch=images)
    for t in (900, 800, 700):
        for row in range(images):
            run = runs.call(x[row : row + 1], t)
            (image,) = run.images.meet(x[row : row + 1], [t])
            assert image.is_first == (t == 900)
        x = step(x, features(batch=images, seed=1))


def test_each_thread_has_runs_of_its_own():
    runs, x, others = Runs(), features(), []
    first = runs.call(x, 900, key="a")
    thread = threading.Thread(target=lambda: others.append(runs.call(x, 800, key="a")))
    thread.start()
    thread.join()
    assert others[0] is not first
    assert runs.call(x, 800, key="a") is first


def test_a_metric_that_follows_no_images_needs_one_run_alone():
    runs, x = Runs("latent"), features()
    first = runs.call(x, 500)
    assert runs.call(x, 900) is first
    assert first.images.timestep == math.inf
