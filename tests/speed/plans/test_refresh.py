"""Plans that serve several steps of a sampling run."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tome_core.merging import MergePlan, bipartite_soft_matching_2d
from tome_core.speed import LevelReport, SpeedConfig, SpeedReport, apply_speed
from tome_core.speed.plans.making import serves_another_step
from tome_core.speed.plans.run import ModelCall, SamplingRun
from tome_core.speed.plans.schedule import NoiseSchedule, share_of_steps

GRID = (8, 8)


class Counter:
    """A matching that remembers how many rows it was asked for, by call."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, metric: Tensor, height: int, width: int, r: int) -> MergePlan:
        self.rows.append(len(metric))
        return bipartite_soft_matching_2d(metric, height, width, r)


def new_run(counter: Counter | None = None, **settings: Any) -> SamplingRun:
    config = SpeedConfig(**{"metric": "latent", **settings})
    report = SpeedReport("Model", config, config.metric, (LevelReport(1, 1, 1, chosen=True),))
    return SamplingRun(config, report, NoiseSchedule(share_of_steps(1000)), matcher=counter)


def latents(rows: int, seed: int = 0, size: tuple[int, int] = GRID) -> Tensor:
    return torch.randn(rows, 4, *size, generator=torch.Generator().manual_seed(seed))


def step(x: Tensor, timestep: float) -> Tensor:
    return 0.95 * x + 0.1 * latents(1, seed=int(timestep), size=(x.shape[2], x.shape[3]))


def plan_of(run: SamplingRun, x: Tensor, timestep: float) -> MergePlan:
    """Return the plan of a model call."""
    call = ModelCall(run, x, timestep)
    plan = call.plan(1, (x.shape[2], x.shape[3]), "attention")
    call.end(None)
    assert plan is not None
    return plan


def slots(run: SamplingRun, x: Tensor, timestep: float) -> Tensor:
    """Return [B, N], the slot of each token, in a model call."""
    return plan_of(run, x, timestep).assignment


def matched_steps(steps: int, refresh: int) -> list[int]:
    """Return the steps of an evenly spaced run in which plans are made."""
    counter, x, found = Counter(), latents(1), []
    run = new_run(counter, refresh=refresh)
    for i in range(steps):
        timestep = 1000 - 1000 * i / steps
        counter.rows.clear()
        slots(run, x, timestep)
        found += [i] if counter.rows else []
        x = step(x, timestep)
    return found


@pytest.mark.parametrize(
    ("steps", "refresh", "expected"),
    [
        (50, 10, [0, 1, 2, 3, 4, 9, 14, 19, 29, 39, 49]),
        (20, 4, [0, 1, 3, 5, 7, 11, 15, 19]),
        (20, 1, list(range(20))),
        (20, 2, [0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 15, 17, 19]),
        (10, 50, [0]),
    ],
)
def test_plans_are_made_often_early_and_at_every_nth_step_later(steps, refresh, expected):
    assert matched_steps(steps, refresh) == expected


@pytest.mark.parametrize("steps", range(1, 10))
def test_few_steps_are_all_matched_as_their_pictures_change_much(steps):
    assert matched_steps(steps, refresh=50) == list(range(steps))


@pytest.mark.parametrize("refresh", [1, 2, 7, 50])
def test_a_plan_serves_no_fewer_steps_later(refresh):
    percents = [percent / 100 for percent in range(101)]
    served = [1 + sum(serves_another_step(age, refresh, at, at - 0.01) for age in range(1, 60)) for at in percents]
    assert served == sorted(served)
    assert (served[0], served[-1], len(set(served)) <= 3) == (1, refresh, True)
    assert not any(serves_another_step(1, refresh, at, at - 0.11) for at in percents)


def test_a_kept_plan_is_the_very_same_one_and_a_new_one_is_of_the_present_features():
    run, x, plans = new_run(refresh=2), latents(2), []
    for timestep in (500, 450, 400):
        plans.append(plan_of(run, x, timestep))
        if timestep > 400:
            x = step(x, timestep)
    assert plans[0] is plans[1]
    assert torch.equal(plans[2].assignment, slots(new_run(), x, 400))
    assert not torch.equal(plans[2].assignment, plans[1].assignment)


def test_the_rows_of_an_image_are_matched_once():
    counter, x = Counter(), latents(3)
    run = new_run(counter, refresh=2)
    together = slots(run, x[[0, 1, 2, 0, 1, 2]], 500)
    assert counter.rows == [3]
    assert torch.equal(together[:3], together[3:])
    assert torch.equal(together[:3], slots(new_run(), x, 500))


LAYOUTS = [
    [[0, 1, 2, 0, 1, 2]],
    [[0, 1, 2], [0, 1, 2]],
    [[2, 0, 1, 1, 2, 0]],
    [[0, 0], [1, 1], [2, 2]],
    [[2], [2], [1], [0], [0], [1]],
    [[1], [1]],
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_image_keeps_its_plan_however_it_is_batched(layout):
    x, run, expected = latents(3), new_run(refresh=3), new_run(refresh=3)
    for timestep in (900, 850, 800, 750, 700, 650):
        together = slots(expected, x, timestep)
        for rows in layout:
            for row, plan in zip(rows, slots(run, x[rows], timestep), strict=True):
                assert torch.equal(plan, together[row])
        x = step(x, timestep)


def test_the_second_call_of_a_step_shares_the_plans_of_the_first_also_with_another_layout_in_each_step():
    counter, x = Counter(), latents(2)
    run = new_run(counter, refresh=2)
    for timestep, layout in ((500, [[0, 1], [1, 0]]), (450, [[1, 0, 1, 0]]), (400, [[0], [1], [0], [1]])):
        for rows in layout:
            slots(run, x[rows], timestep)
        x = step(x, timestep)
    assert counter.rows == [2, 1, 1]


def new_runs() -> dict[str, tuple[Tensor, int]]:
    """Return latents and a timestep that cannot be of a run after step 500 with `latents(2)`."""
    return {
        "timesteps go up": (latents(2), 900),
        "another picture": (latents(2, seed=9), 450),
        "another size": (latents(2, size=(8, 12)), 450),
        "another batch of other pictures": (latents(5, seed=9), 450),
    }


@pytest.mark.parametrize("name", new_runs())
def test_a_new_run_begins_with_plans_of_its_own(name):
    counter = Counter()
    run = new_run(counter, refresh=50)
    slots(run, latents(2), 500)
    x, timestep = new_runs()[name]
    assert torch.equal(slots(run, x, timestep), slots(new_run(), x, timestep))
    assert counter.rows == [2, len(x)]


def test_an_image_that_joins_a_batch_is_matched_alone():
    counter, x = Counter(), latents(3)
    run = new_run(counter, refresh=50)
    first = slots(run, x[:2], 500)
    second = slots(run, x, 450)
    assert counter.rows == [2, 1]
    assert torch.equal(first, second[:2])
    assert torch.equal(second[2:], slots(new_run(), x[2:], 450))


def test_every_level_and_ratio_keeps_a_plan_of_its_own():
    run, x, kept = new_run(refresh=9, mlp_ratio=0.25, parts=("attention", "mlp")), latents(1), []
    for timestep in (500, 450):
        call = ModelCall(run, x, timestep)
        kept.append([call.plan(1, GRID, "attention"), call.plan(1, GRID, "mlp"), call.plan(2, (4, 4), "attention")])
        x = step(x, timestep)
    assert [plan and plan.kept for plan in kept[0]] == [32, 48, 8]
    assert all(one is other for one, other in zip(*kept, strict=True))


def test_without_timesteps_every_step_is_matched():
    counter, x = Counter(), latents(1)
    run = new_run(counter, refresh=50)
    for _ in range(2):
        assert ModelCall(run, x, None).plan(1, GRID, "attention") is not None
    assert counter.rows == [1, 1]


def sample(unet, inputs: dict[str, Any], calls: list[list[int]], config: SpeedConfig) -> tuple[dict[int, Tensor], int]:
    """Return each row's last output of a run of six steps whose every step evaluates the rows in these calls, and the
    number of matchings. Rows i and i + 3 are one image's."""
    x, outputs, counter = inputs["sample"].clone(), {}, Counter()
    with apply_speed(unet, config, matcher=counter):
        for timestep in (520, 480, 440, 400, 360, 320):
            for rows in calls:
                got = unet(x[rows], timestep, inputs["encoder_hidden_states"][rows]).sample
                outputs |= dict(zip(rows, got, strict=True))
            for row in {row % 3 for row in outputs}:
                x[[row, row + 3]] -= 0.1 * (3 * outputs[row + 3] - 2 * outputs[row])
    return outputs, len(counter.rows)


@pytest.mark.parametrize("metric", ["latent", "estimate"])
def test_a_run_of_a_model_does_not_depend_on_how_its_steps_are_batched(new_unet, new_inputs, relative_error, metric):
    unet, inputs, config = new_unet(), new_inputs(batch=6), SpeedConfig(metric=metric, refresh=3)
    inputs["sample"] = torch.cat([inputs["sample"][:3]] * 2)
    together, matchings = sample(unet, inputs, [[0, 1, 2, 3, 4, 5]], config)
    assert matchings == 2
    at_every_step, _ = sample(unet, inputs, [[1, 4]], SpeedConfig(metric=metric))
    assert relative_error(at_every_step[4], together[4]) > 1e-3  # keeping does something
    for calls in ([[1, 4]], [[4], [1]], [[1], [4]], [[5, 4, 2, 1], [3, 0]]):
        outputs, matchings = sample(unet, inputs, calls, config)
        assert matchings == 2 * (1 if calls[0] != [5, 4, 2, 1] else 2)
        for row, output in outputs.items():
            assert relative_error(output, together[row]) < 1e-4


def test_a_call_that_fails_leaves_no_plan_behind(new_unet, new_inputs):
    unet, inputs, counter = new_unet(), new_inputs(), Counter()
    with apply_speed(unet, SpeedConfig(refresh=50), matcher=counter):
        unet(**inputs)
        with pytest.raises(TypeError):
            unet(**inputs, no_such_argument=1)
        unet(**{**inputs, "timestep": 480})
    assert counter.rows == [2, 2]


def test_a_matching_of_each_blocks_input_keeps_no_plan_and_says_so(new_unet, new_inputs):
    unet, inputs, outputs = new_unet(), new_inputs(), []
    for refresh in (1, 50):
        with apply_speed(unet, SpeedConfig(metric="block", refresh=refresh)) as handle:
            unet(**inputs)
            outputs.append(unet(**{**inputs, "timestep": 480}).sample)
    assert torch.equal(*outputs)
    assert handle.report.notes == ["refresh has no effect on metric block: each block matches on its own input"]
