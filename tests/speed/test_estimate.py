"""What a sampling run's last step took its pictures to be."""

import copy
import pickle
import weakref

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from tome_core.speed import SpeedConfig, apply_speed
from tome_core.speed.diffusers_schedule import read_schedule
from tome_core.speed.estimate import CleanEstimate
from tome_core.speed.run import SamplingRun

ALPHAS = torch.linspace(0.999, 0.001, 1000)
CENTRE = slice(4, None, 9)  # of each channel's nine features, the pixel itself


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def noisy(z: Tensor, n: Tensor, t: float) -> Tensor:
    alpha = ALPHAS[int(t)]
    return alpha.sqrt() * z + (1 - alpha).sqrt() * n


Z, N = noise(2, 4, 6, 5, seed=1), noise(2, 4, 6, 5, seed=2)


class Sampler:
    """Calls an estimate as a model does."""

    def __init__(self, *settings) -> None:
        self.run, self.estimate = SamplingRun(), CleanEstimate(*settings)

    def __call__(self, x: Tensor, t: Tensor | float, predicted: Tensor, text: Tensor | None = None) -> Tensor:
        """Return [B, C, height, width], what the model is expected to make of x."""
        timesteps = torch.as_tensor(t, dtype=torch.float).expand(len(x)).tolist()
        images = self.run.meet(x, timesteps)
        features = self.estimate.features(images)[:, CENTRE]
        assert self.estimate.learn(images, predicted, text)
        return features


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_it_is_what_the_model_predicted_in_the_last_step(prediction_type):
    sampler = Sampler(ALPHAS, prediction_type)
    for t in (900, 800, 700):
        alpha = ALPHAS[t]
        v = alpha.sqrt() * N - (1 - alpha).sqrt() * Z
        got = sampler(noisy(Z, N, t), torch.tensor(t), {"epsilon": N, "v_prediction": v, "sample": Z}[prediction_type])
    torch.testing.assert_close(got, Z, atol=1e-4, rtol=1e-4)


def test_a_prediction_type_that_is_not_known_is_an_error():
    with pytest.raises(ValueError, match=r"prediction_type must be one of .*, got 'flow_prediction'"):
        CleanEstimate(ALPHAS, "flow_prediction")


def test_a_prediction_with_learned_variances_teaches_nothing():
    images = SamplingRun().meet(noisy(Z, N, 900), [900.0] * 2)
    assert not CleanEstimate(ALPHAS).learn(images, torch.cat([N, N], dim=1), None)


def test_a_timestep_that_holds_no_signal_gives_finite_features():
    sampler = Sampler(torch.linspace(0.999, 0.0, 1000))
    for t in (999, 999 - 1e-6, 700):
        features = sampler(N, t, N + 0.1)
    assert features.isfinite().all()


def test_the_first_two_steps_of_a_run_see_their_noisy_latent_also_after_another_run():
    sampler = Sampler(ALPHAS)
    for _ in range(2):
        for t in (900, 800):
            x = noisy(Z, N, t)
            assert torch.equal(sampler(x, t, N), x)
        assert not torch.equal(sampler(noisy(Z, N, 700), 700, N), noisy(Z, N, 700))


def test_features_are_a_latents_pixel_and_its_neighbours():
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    features = CleanEstimate(ALPHAS).features(SamplingRun().meet(x, [500.0]))
    assert features.shape == (1, 9, 3, 4)
    assert features[0, :, 1, 2].tolist() == [1, 2, 3, 5, 6, 7, 9, 10, 11]
    assert features[0, :, 0, 0].tolist() == [0, 0, 1, 0, 0, 1, 4, 4, 5]


def sample(layout: list[list[int]], sampler: Sampler | None = None, same_noise: bool = False) -> dict[int, Tensor]:
    """Return what is estimated for each row in the third step; rows 2 i and 2 i + 1 are image i's two texts.

    Images begin with the same noise or another one. Each step moves them by what their own two rows predicted.
    """
    sampler, found, images = sampler or Sampler(ALPHAS), {}, 12
    text, drawn = noise(2 * images, 3, 2, seed=3), noise(2 * images, 4, 6, 5, seed=6)
    text[1::2], drawn[1::2] = text[1], drawn[1]  # the empty prompt
    start = noise(images, 4, 6, 5, seed=4)
    x = start[:1].repeat(images, 1, 1, 1) if same_noise else start
    for t in (900, 800, 700):
        predicted = 0.8 * x.repeat_interleave(2, dim=0) + 0.2 * drawn
        for rows in layout:
            features = sampler(x[[row // 2 for row in rows]], t, predicted[rows], text[rows])
            found |= dict(zip(rows, features, strict=True))
        x = x - 0.1 * (3 * predicted[::2] - 2 * predicted[1::2])
    return found


ALL = list(range(24))
LAYOUTS = {
    "reversed": [ALL[::-1]],
    "texts apart": [ALL[::2], ALL[1::2]],
    "texts apart, empty prompt first": [ALL[1::2], ALL[::2]],
    "images apart": [[2 * i, 2 * i + 1] for i in range(12)],
    "24 calls a step": [[i] for i in ALL],
    "one image": [[6, 7]],
    "one image, texts apart": [[7], [6]],
}


@pytest.mark.parametrize("same_noise", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_texts_of_an_image_share_it_however_they_are_evaluated(layout, same_noise):
    together = sample([ALL], same_noise=same_noise)
    for row, features in sample(layout, same_noise=same_noise).items():
        assert torch.equal(features, together[row])
        assert torch.equal(features, together[row ^ 1])
        assert not torch.equal(features, together[(row + 2) % 24])


@pytest.mark.parametrize("steps", [1, 2])
def test_a_run_that_was_broken_off_leaves_nothing_in_the_next_one_of_its_seed(steps):
    sampler, x = Sampler(ALPHAS), noise(12, 4, 6, 5, seed=4)
    for t in (900, 800)[:steps]:
        sampler(x, t, noise(12, 4, 6, 5, seed=9), noise(12, 3, 2, seed=9))
    expected = sample([ALL])
    for row, features in sample([ALL], sampler).items():
        assert torch.equal(features, expected[row])


def test_a_row_of_another_run_sees_its_noisy_latent():
    sampler = Sampler(ALPHAS)
    for t in (900, 800):
        sampler(noisy(Z, N, t), t, N)
    other = noise(2, 4, 6, 5, seed=9)
    assert torch.equal(sampler(other, 700, N), other)
    assert torch.equal(sampler(other[:, :, :4], 600, N[:, :, :4]), other[:, :, :4])


def test_rows_at_other_timesteps_are_known_by_their_own():
    sampler = Sampler(ALPHAS)
    for t in (900, 800, 700):
        x = torch.cat([noisy(Z[:1], N[:1], t), noisy(Z[1:], N[1:], t - 400)])
        got = sampler(x, torch.tensor([t, t - 400.0]), N)
    torch.testing.assert_close(got, Z, atol=1e-4, rtol=1e-4)


def called(unet, inputs, timesteps: tuple[int, ...], scheduler: object = None, **settings):
    """Return the report, the plans of level 1 and the last output of a run, in a pipeline if a scheduler is given."""
    plans, pipe = [], type("Pipeline", (), {"unet": unet, "scheduler": scheduler})()
    with apply_speed(pipe if scheduler else unet, SpeedConfig(**{"metric": "estimate"} | settings)) as handle:
        for timestep in timesteps:
            output = unet(**{**inputs, "timestep": timestep}).sample
            plans.append(handle.state.plan(1, (16, 16)).assignment)
    return handle.report, plans, output


def test_a_model_takes_it_up_step_by_step(new_unet, new_inputs):
    _, (first, second, third), _ = called(new_unet(), new_inputs(), (900, 800, 700), DDIMScheduler())
    assert torch.equal(first, second)  # from the latent itself, which stays the same here
    assert not torch.equal(second, third)  # from the prediction


@pytest.mark.parametrize("matched", [1, 2, 5])
def test_the_report_tells_in_how_many_calls_the_noisy_latent_stood_in(new_unet, new_inputs, matched):
    report, _, _ = called(new_unet(), new_inputs(), (900, 800, 700, 600, 500)[:matched], DDIMScheduler())
    assert (report.blind_calls, report.merged_calls) == (min(matched, 2), matched)
    calls = "1 call" if matched == 1 else "2 calls"
    assert f"matching by estimate (the noisy latent in {calls})," in str(report)


def test_a_metric_that_is_known_at_once_has_no_stand_in(new_unet, new_inputs):
    report, _, _ = called(new_unet(), new_inputs(), (900, 800), DDIMScheduler(), metric="latent")
    assert report.blind_calls == 0
    assert "matching by latent," in str(report)


def test_two_runs_of_one_handle_are_bit_equal(new_unet, new_inputs):
    unet, inputs, outputs = new_unet(), new_inputs(), []
    with apply_speed(unet, SpeedConfig(metric="estimate")):
        for _ in range(2):
            for timestep in (900, 800, 700):
                output = unet(**{**inputs, "timestep": timestep}).sample
            outputs.append(output)
    assert torch.equal(*outputs)


def test_a_bare_model_has_the_schedule_of_stable_diffusion_and_the_report_says_so(new_unet):
    settings = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    scheduler = DDIMScheduler(**settings)  # type: ignore[arg-type]
    torch.testing.assert_close(read_schedule(None).alphas, scheduler.alphas_cumprod)
    assert read_schedule(None).prediction_type == "epsilon"
    sentence = "metric estimate: Stable Diffusion's noise schedule and prediction of noise are taken for granted"
    with apply_speed(new_unet(), SpeedConfig(metric="estimate")) as handle:
        assert handle.report.notes[0].startswith(sentence)
    with apply_speed(new_unet(), SpeedConfig(metric="latent")) as handle:
        assert handle.report.notes == []


REFUSED = {
    "FlowMatchEulerDiscreteScheduler has no alphas_cumprod": FlowMatchEulerDiscreteScheduler(),
    "EDMEulerScheduler has no alphas_cumprod": EDMEulerScheduler(),
    "UniPCMultistepScheduler samples by flow matching": UniPCMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction"
    ),
    "counts noise levels where others count timesteps": EulerDiscreteScheduler(
        timestep_type="continuous", prediction_type="v_prediction"
    ),
    "DDIMScheduler has prediction_type 'x0', and known are": DDIMScheduler(prediction_type="x0"),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_a_scheduler_that_does_not_tell_the_clean_latent_gets_the_latent_and_a_sentence(new_unet, new_inputs, sentence):
    report, plans, output = called(new_unet(), new_inputs(), (900, 800, 700), REFUSED[sentence])
    assert "metric estimate cannot be had, latent is used instead: " in report.notes[0]
    assert sentence in report.notes[0]
    assert report.metric == "latent"
    _, of_latent, expected = called(new_unet(), new_inputs(), (900, 800, 700), REFUSED[sentence], metric="latent")
    assert torch.equal(output, expected)
    assert torch.equal(plans[2], of_latent[2])


def test_a_scheduler_that_is_put_there_later_is_read(new_unet, new_inputs):
    unet, inputs = new_unet(), new_inputs()
    pipe = type("Pipeline", (), {"unet": unet, "scheduler": DDIMScheduler()})()
    with apply_speed(pipe, SpeedConfig(metric="estimate")) as handle:
        unet(**inputs)
        assert (handle.report.metric, handle.report.notes) == ("estimate", [])
        pipe.scheduler = FlowMatchEulerDiscreteScheduler()
        unet(**inputs)
        assert handle.report.metric == "latent"
        pipe.scheduler = DDIMScheduler()
        unet(**inputs)
        assert handle.report.metric == "estimate"


def test_a_run_of_a_pipeline_begins_when_its_scheduler_gets_timesteps(new_unet, new_inputs):
    unet, inputs, plans = new_unet(), new_inputs(), []
    pipe = type("Pipeline", (), {"unet": unet, "scheduler": DDIMScheduler()})()
    with apply_speed(pipe, SpeedConfig(metric="estimate")) as handle:
        for is_new in (True, False, False, True):
            if is_new:
                pipe.scheduler.set_timesteps(4)
            inputs["timestep"] = inputs["timestep"] - 50
            unet(**inputs)
            plans.append([image.is_first for image in handle.state.images])
    assert plans == [[True] * 2, [False] * 2, [False] * 2, [True] * 2]


def test_a_model_in_a_pipeline_is_copied_with_a_patch_of_its_own(new_unet, new_inputs):
    unet, inputs = new_unet(), new_inputs()
    pipe = type("Pipeline", (), {"unet": unet, "scheduler": DDIMScheduler()})()
    with apply_speed(pipe, SpeedConfig(metric="estimate")):
        expected = unet(**inputs).sample
        twins = copy.deepcopy(unet), pickle.loads(pickle.dumps(unet))
    for twin in twins:
        assert torch.equal(twin(**inputs).sample, expected)


def test_a_pipeline_is_not_kept_alive(new_unet):
    unet = new_unet()
    pipe = type("Pipeline", (), {"unet": unet, "scheduler": DDIMScheduler()})()
    watched = weakref.ref(pipe)
    with apply_speed(pipe, SpeedConfig(metric="estimate")):
        del pipe
        assert watched() is None
