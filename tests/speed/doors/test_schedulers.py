"""What diffusers' schedulers say about noise, and which run a call belongs to."""

import copy
import pickle
import weakref
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from diffusers import (
    CMStochasticIterativeScheduler,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    IPNDMScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from tome_core.speed import SpeedConfig, apply_speed
from tome_core.speed.doors.schedulers import SchedulerWatch, read_schedule

STABLE_DIFFUSION: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def clean_by_step(scheduler: Any, x: Tensor, predicted: Tensor, place: int) -> Tensor:
    """Return the clean latent that a step of a scheduler gives of noisy x, as diffusers reckons it."""
    return scheduler.step(predicted, scheduler.timesteps[place], x).pred_original_sample


def clean_by_conversion(scheduler: Any, x: Tensor, predicted: Tensor, place: int) -> Tensor:
    scheduler._step_index = place
    return scheduler.convert_model_output(predicted, sample=x)


def clean_by_last_step(scheduler: Any, x: Tensor, predicted: Tensor, place: int) -> Tensor:
    """A last step of flow matching leads to the clean latent."""
    scheduler._step_index, scheduler.sigmas = place, scheduler.sigmas.clone()
    scheduler.sigmas[place + 1] = 0
    return scheduler.step(predicted, scheduler.timesteps[place], x).prev_sample


KINDS = {
    "noise": (DDIMScheduler(clip_sample=False, **STABLE_DIFFUSION), clean_by_step),
    "v": (DDIMScheduler(clip_sample=False, prediction_type="v_prediction"), clean_by_step),
    "the sample itself": (DDIMScheduler(clip_sample=False, prediction_type="sample"), clean_by_step),
    "scaled input": (EulerDiscreteScheduler(timestep_spacing="leading", **STABLE_DIFFUSION), clean_by_step),
    "scaled input, v": (
        EulerDiscreteScheduler(timestep_spacing="leading", prediction_type="v_prediction"),
        clean_by_step,
    ),
    "several steps": (DPMSolverMultistepScheduler(timestep_spacing="leading"), clean_by_conversion),
    "noise levels, v": (
        EulerDiscreteScheduler(timestep_type="continuous", prediction_type="v_prediction", use_karras_sigmas=True),
        clean_by_step,
    ),
    "continuous in name alone, noise": (
        EulerDiscreteScheduler(timestep_type="continuous", prediction_type="epsilon"),
        clean_by_step,
    ),
    "EDM": (EDMEulerScheduler(), clean_by_step),
    "EDM, v": (EDMEulerScheduler(prediction_type="v_prediction", sigma_data=1.0), clean_by_step),
    "EDM, several steps": (EDMDPMSolverMultistepScheduler(), clean_by_conversion),
    "flow": (FlowMatchEulerDiscreteScheduler(), clean_by_last_step),
    "shifted flow": (FlowMatchEulerDiscreteScheduler(shift=3.0), clean_by_last_step),
    "flow, several steps": (
        UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=2.0),
        clean_by_conversion,
    ),
    "flow, noise": (UniPCMultistepScheduler(use_flow_sigmas=True), clean_by_conversion),
}


@pytest.mark.parametrize("place", [1, 5, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_the_clean_latent_is_the_one_that_the_scheduler_itself_reckons(relative_error, kind, place):
    scheduler, conversion = copy.deepcopy(KINDS[kind])
    scheduler.set_timesteps(10)
    generator = torch.Generator().manual_seed(0)
    x, predicted = (torch.randn(2, 4, 5, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    t = scheduler.timesteps[place]
    schedule = read_schedule(scheduler, scheduler.timesteps.tolist())
    scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
    got = schedule.clean(scaled, predicted, [float(t)] * 2)
    assert schedule.obstacle is None
    error = relative_error(got, conversion(scheduler, x, predicted, place))
    assert error < 3e-3  # some timesteps are rounded


def test_timesteps_that_are_shares_of_a_run_are_known_by_their_place():
    scheduler = IPNDMScheduler()
    scheduler.set_timesteps(10)
    schedule = read_schedule(scheduler, scheduler.timesteps.tolist())
    found = [schedule.percent(float(t)) for t in scheduler.timesteps[:10]]
    assert found == pytest.approx([place / len(scheduler.timesteps) for place in range(10)])
    assert schedule.obstacle == "IPNDMScheduler has no alphas_cumprod"


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_where_it_is_in_the_run(kind):
    scheduler = copy.deepcopy(KINDS[kind][0])
    scheduler.set_timesteps(10)
    percent = read_schedule(scheduler, scheduler.timesteps.tolist()).percent
    found = [percent(t) for t in scheduler.timesteps.tolist()]
    assert found == sorted(found)
    assert (found[0] <= 0.1, found[-1] >= 0.75, len(set(found))) == (True, True, 10)
    if "EDM" in kind or "noise levels" in kind:
        assert found == pytest.approx([step / 10 for step in range(10)])


class Pipeline:
    """What merging looks at in a pipeline."""

    def __init__(self, unet: Any, scheduler: object = None) -> None:
        self.unet, self.scheduler = unet, DDIMScheduler() if scheduler is None else scheduler


def called(model: Any, inputs: dict[str, Any], timesteps: Iterable[Any], **settings: Any):
    """Return the report, the plans of level 1 and the last output of a run."""
    plans, unet = [], getattr(model, "unet", model)
    with apply_speed(model, SpeedConfig(**{"metric": "estimate", **settings})) as handle:
        for timestep in timesteps:
            output = unet(**{**inputs, "timestep": timestep}).sample
            plan = handle.plan(1, (16, 16))
            assert plan is not None
            plans.append(plan.assignment)
    return handle.report, plans, output


def test_a_bare_model_has_the_schedule_of_stable_diffusion_and_the_report_says_so(new_unet, new_inputs):
    schedule, scheduler = read_schedule(None), DDIMScheduler(**STABLE_DIFFUSION)
    assert (schedule.prediction, schedule.percent(250)) == ("epsilon", 0.75)
    assert schedule.amounts is not None
    torch.testing.assert_close(schedule.amounts([float(t) for t in range(1000)])[0], scheduler.alphas_cumprod.sqrt())
    report, _, _ = called(new_unet(), new_inputs(), (900, 800, 900))
    assert report.notes == [
        "metric estimate: Stable Diffusion's noise schedule and prediction of noise are assumed, since a bare UNet "
        "names none: give the pipeline if it has others"
    ]
    report, _, _ = called(new_unet(), new_inputs(), (900,), metric="latent")
    assert report.notes == []


def test_a_model_takes_its_estimate_up_step_by_step(new_unet, new_inputs):
    _, (first, second, third), _ = called(Pipeline(new_unet()), new_inputs(), (900, 800, 700))
    assert torch.equal(first, second)  # from the latent itself, which stays the same here
    assert not torch.equal(second, third)  # from the prediction


@pytest.mark.parametrize("matched", [1, 2, 5])
def test_the_report_says_in_how_many_calls_the_noisy_latent_stood_in(new_unet, new_inputs, matched):
    report, _, _ = called(Pipeline(new_unet()), new_inputs(), (900, 800, 700, 600, 500)[:matched])
    assert (report.blind_calls, report.merged_calls) == (min(matched, 2), matched)
    calls = "1 call" if matched == 1 else "2 calls"
    assert f"matching by estimate (the noisy latent in {calls})," in str(report)


def test_a_metric_that_is_known_at_once_has_no_stand_in(new_unet, new_inputs):
    report, _, _ = called(Pipeline(new_unet()), new_inputs(), (900, 800), metric="latent")
    assert report.blind_calls == 0
    assert "matching by latent," in str(report)


OBSTACLES = {
    "CMStochasticIterativeScheduler has no alphas_cumprod": CMStochasticIterativeScheduler(),
    "DDIMScheduler has prediction_type 'x0'": DDIMScheduler(prediction_type="x0"),
    "EDMEulerScheduler has prediction_type 'x0'": EDMEulerScheduler(prediction_type="x0"),
}


@pytest.mark.parametrize("sentence", OBSTACLES)
def test_a_scheduler_that_does_not_give_the_clean_latent_gets_the_latent_and_a_sentence(new_unet, new_inputs, sentence):
    pipe, timesteps = Pipeline(new_unet(), OBSTACLES[sentence]), (900, 800, 700)
    report, plans, output = called(pipe, new_inputs(), timesteps)
    assert report.notes == [f"metric estimate has no effect here, latent is used instead: {sentence}"]
    assert report.metric == "latent"
    _, of_latent, expected = called(pipe, new_inputs(), timesteps, metric="latent")
    assert torch.equal(output, expected)
    assert torch.equal(plans[2], of_latent[2])


@pytest.mark.parametrize(
    "scheduler",
    [EDMEulerScheduler(), EulerDiscreteScheduler(timestep_type="continuous", prediction_type="v_prediction")],
    ids=["EDM", "continuous"],
)
def test_timesteps_that_are_noise_levels_leave_the_chosen_part_of_the_run_where_it_is(new_unet, new_inputs, scheduler):
    pipe, merged = Pipeline(new_unet(), scheduler), {}
    for chosen in ((0.3, 1.0), (0.0, 0.5), (0.0, 1.0)):
        scheduler.set_timesteps(10)
        with apply_speed(pipe, SpeedConfig(start_percent=chosen[0], end_percent=chosen[1])) as handle:
            merged[chosen] = []
            for t in scheduler.timesteps:
                before = handle.report.merged_calls
                pipe.unet(**{**new_inputs(batch=1), "timestep": t})
                merged[chosen].append(handle.report.merged_calls - before)
        assert handle.report.notes == []
    assert merged == {(0.3, 1.0): [0] * 3 + [1] * 7, (0.0, 0.5): [1] * 6 + [0] * 4, (0.0, 1.0): [1] * 10}


def test_a_scheduler_that_is_put_there_later_is_read(new_unet, new_inputs):
    pipe, found = Pipeline(new_unet()), []
    with apply_speed(pipe, SpeedConfig(metric="estimate")) as handle:
        for scheduler in (DDIMScheduler(), CMStochasticIterativeScheduler(), EDMEulerScheduler()):
            pipe.scheduler = scheduler
            scheduler.set_timesteps(4)
            pipe.unet(**{**new_inputs(), "timestep": scheduler.timesteps[0]})
            found.append(handle.report.metric)
    assert found == ["estimate", "latent", "estimate"]


def test_a_run_begins_when_the_scheduler_gets_timesteps(new_unet, new_inputs):
    pipe, blind = Pipeline(new_unet()), []
    with apply_speed(pipe, SpeedConfig(metric="estimate")) as handle:
        for place, is_new in enumerate((True, False, False, True, False, False)):
            if is_new:
                pipe.scheduler.set_timesteps(8)
            pipe.unet(**{**new_inputs(), "timestep": pipe.scheduler.timesteps[place]})  # never back to the first one
            blind.append(handle.report.blind_calls)
    assert blind == [1, 2, 2, 3, 4, 4]


def test_a_key_is_that_of_the_timesteps_that_a_timestep_was_taken_from():
    pipe = Pipeline(None)
    watch, scheduler = SchedulerWatch(pipe), pipe.scheduler
    scheduler.set_timesteps(4)
    first = scheduler.timesteps
    keys = [watch.key(t) for t in first]
    assert keys[0] is not None
    assert set(keys) == {keys[0]}
    assert watch.key(first[2].clone()) == keys[0]  # moved or cast, and still one of them
    assert watch.key(first[2].clone().repeat(2)) == keys[0]  # one for each row
    assert watch.key(first[2].expand(2)) == keys[0]
    scheduler.set_timesteps(4)
    assert watch.key(scheduler.timesteps[0]) != keys[0]
    assert watch.key(first[0]) == keys[0]
    for nothing in (torch.tensor(1234.5), torch.tensor([1234.5] * 2), torch.tensor([]), 500, 500.0, None):
        assert watch.key(nothing) is None
    assert watch.timesteps(watch.key(scheduler.timesteps[0])) == scheduler.timesteps.tolist()
    assert watch.timesteps(keys[0]) == []  # those of a scheduler that has gone on


def test_a_key_holds_its_timesteps_so_that_no_later_run_has_their_address():
    pipe = Pipeline(None)
    watch, keys = SchedulerWatch(pipe), []
    for _ in range(20):
        pipe.scheduler.set_timesteps(4)
        keys.append(watch.key(pipe.scheduler.timesteps[0]))
    assert len(set(keys)) == 20


def test_a_model_in_a_pipeline_is_copied_with_a_patch_of_its_own(new_unet, new_inputs):
    unet, inputs = new_unet(), new_inputs()
    with apply_speed(Pipeline(unet), SpeedConfig(metric="estimate")):
        expected = unet(**inputs).sample
        twins = copy.deepcopy(unet), pickle.loads(pickle.dumps(unet))
    for twin in twins:
        assert torch.equal(twin(**inputs).sample, expected)


def test_a_pipeline_is_not_kept_alive(new_unet, new_inputs):
    pipe = Pipeline(new_unet())
    watched, unet, scheduler = weakref.ref(pipe), pipe.unet, pipe.scheduler
    with apply_speed(pipe, SpeedConfig(metric="estimate")) as handle:
        del pipe
        assert watched() is None
        scheduler.set_timesteps(4)
        unet(**{**new_inputs(), "timestep": scheduler.timesteps[0]})
        assert (handle.report.merged_calls, handle.report.notes) == (1, [])  # the scheduler is known still
