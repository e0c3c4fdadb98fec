"""What a sampling run's last step took its pictures to be."""

import pytest
import torch
from torch import Tensor

from tome_core.speed import SpeedConfig, apply_speed
from tome_core.speed.diffusers_schedule import read_schedule
from tome_core.speed.estimate import CleanEstimate

ALPHAS = torch.linspace(0.999, 0.001, 1000)
CENTRE = slice(4, None, 9)  # of each channel's nine features, the pixel itself


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def noisy(z: Tensor, n: Tensor, t: float) -> Tensor:
    alpha = ALPHAS[int(t)]
    return alpha.sqrt() * z + (1 - alpha).sqrt() * n


def clean(features: Tensor) -> Tensor:
    return features[:, CENTRE]


Z, N = noise(2, 4, 6, 5, seed=1), noise(2, 4, 6, 5, seed=2)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_it_is_what_the_model_predicted_in_the_last_step(prediction_type):
    estimate, alpha = CleanEstimate(ALPHAS, prediction_type), ALPHAS[800]
    estimate.expect(noisy(Z, N, 800), 800)
    v = alpha.sqrt() * N - (1 - alpha).sqrt() * Z
    estimate.learn({"epsilon": N, "v_prediction": v, "sample": Z}[prediction_type])
    torch.testing.assert_close(clean(estimate.expect(noisy(Z, N, 700), torch.tensor(700))), Z, atol=1e-4, rtol=1e-4)


def test_the_first_step_of_a_run_sees_its_noisy_latent_also_after_another_run():
    estimate, x = CleanEstimate(ALPHAS), noisy(Z, N, 900)
    for _ in range(2):
        assert torch.equal(clean(estimate.expect(x, 900)), x)
        estimate.learn(N)
        estimate.expect(noisy(Z, N, 500), 500)
        estimate.learn(N)


def test_features_are_a_latents_pixel_and_its_neighbours():
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    features = CleanEstimate(ALPHAS).expect(x, 500)
    assert features.shape == (1, 9, 3, 4)
    assert features[0, :, 1, 2].tolist() == [1, 2, 3, 5, 6, 7, 9, 10, 11]
    assert features[0, :, 0, 0].tolist() == [0, 0, 1, 0, 0, 1, 4, 4, 5]


def predictions(rows: int) -> Tensor:
    return noise(rows, 4, 6, 5, seed=7)


def run(*layout: list[int]) -> dict[int, Tensor]:
    """Return what is estimated for each row number; rows 0 and 1 are one image's, 2 and 3 another's."""
    estimate, found = CleanEstimate(ALPHAS), {}
    images = [0, 0, 1, 1]
    for t in (800, 700):
        x = noisy(Z, N, t)
        for rows in layout:
            features = clean(estimate.expect(x[[images[i] for i in rows]], t))
            estimate.learn(predictions(4)[rows])
            found |= dict(zip(rows, features, strict=True))
    return found


@pytest.mark.parametrize(
    "layout", [[[0, 2, 1, 3]], [[0, 2], [1, 3]], [[1, 3], [2, 0]], [[0], [1], [2], [3]], [[0, 1], [3, 2]]]
)
def test_prompt_and_empty_prompt_share_it_however_they_are_evaluated(layout):
    together, found = run([0, 1, 2, 3]), run(*layout)
    for row in range(4):
        assert torch.equal(found[row], together[row])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_row_of_another_run_sees_its_noisy_latent():
    estimate = CleanEstimate(ALPHAS)
    estimate.expect(noisy(Z, N, 800), 800)
    estimate.learn(N)
    other = noise(2, 4, 6, 5, seed=9)
    assert torch.equal(clean(estimate.expect(other, 700)), other)
    assert torch.equal(clean(estimate.expect(other[:, :, :4], 600)), other[:, :, :4])


def test_rows_at_other_timesteps_are_known_by_their_own():
    estimate, t = CleanEstimate(ALPHAS), torch.tensor([800.0, 400.0])
    x = torch.cat([noisy(Z[:1], N[:1], 800), noisy(Z[1:], N[1:], 400)])
    estimate.expect(x, t)
    estimate.learn(N)
    later = torch.cat([noisy(Z[:1], N[:1], 700), noisy(Z[1:], N[1:], 300)])
    torch.testing.assert_close(clean(estimate.expect(later, t - 100)), Z, atol=1e-4, rtol=1e-4)


def test_a_model_takes_it_up_step_by_step(new_unet, new_inputs):
    unet, inputs, plans = new_unet(), new_inputs(), []
    with apply_speed(unet, SpeedConfig(metric="estimate")) as handle:
        for timestep in (800, 700):
            unet(**{**inputs, "timestep": timestep})
            plans.append(handle.state.plan(1, (16, 16)).assignment)
    assert not torch.equal(*plans)  # from the latent itself first, from the prediction then
    assert handle.report.notes == []


def test_two_runs_of_one_handle_are_bit_equal(new_unet, new_inputs):
    unet, inputs, outputs = new_unet(), new_inputs(), []
    with apply_speed(unet, SpeedConfig(metric="estimate")):
        for _ in range(2):
            for timestep in (800, 700):
                output = unet(**{**inputs, "timestep": timestep}).sample
            outputs.append(output)
    assert torch.equal(*outputs)


def test_a_bare_model_has_the_schedule_of_stable_diffusion():
    from diffusers import DDIMScheduler

    settings = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    scheduler = DDIMScheduler(**settings)  # type: ignore[arg-type]
    torch.testing.assert_close(read_schedule(object()).alphas, scheduler.alphas_cumprod)
    assert read_schedule(object()).prediction_type == "epsilon"
