"""Clean latents from what models predict, for every kind of noise schedule."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tome_core.speed.plans.schedule import (
    NoiseSchedule,
    share_of_steps,
    stable_diffusion_alphas,
    variance_preserving,
)

Z, N = (torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
PREDICTED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "epsilon": lambda a, s: N,
    "v_prediction": lambda a, s: a * N - s * Z,
    "sample": lambda a, s: Z,
    "flow_prediction": lambda a, s: N - Z,
}
AMOUNTS = {
    "variance preserving": lambda t: (torch.cos(torch.tensor(t)), torch.sin(torch.tensor(t))),
    "flow": lambda t: (1 - torch.tensor(t), torch.tensor(t)),
}


@pytest.mark.parametrize(
    ("prediction", "kind"),
    [
        (prediction, kind)
        for prediction in PREDICTED
        for kind in AMOUNTS
        if (prediction, kind) != ("v_prediction", "flow")
    ],
)
def test_the_clean_latent_follows_from_any_prediction_row_by_row(prediction, kind):
    timesteps, amounts = [0.2, 0.5, 0.9], AMOUNTS[kind]
    a, s = (y.reshape(-1, 1, 1, 1) for y in amounts(timesteps))
    schedule = NoiseSchedule(share_of_steps(1), prediction, amounts)
    got = schedule.clean(a * Z + s * N, PREDICTED[prediction](a, s), timesteps)
    torch.testing.assert_close(got, Z)


def test_a_schedule_of_nothing_but_the_run_takes_the_prediction_for_the_clean_latent():
    assert NoiseSchedule(share_of_steps(1000)).clean(N, Z, [500] * 3) is Z


@pytest.mark.parametrize(("timestep", "percent"), [(1000, 0), (999, 0.001), (800, 0.2), (0, 1), (1200, 0), (-3, 1)])
def test_timesteps_count_down_over_the_run(timestep, percent):
    assert share_of_steps(1000)(timestep) == percent


def test_amounts_of_signal_and_noise_are_those_of_the_table_and_between_its_rows():
    alphas = torch.tensor([0.81, 0.49, 0.25])
    a, s = variance_preserving(alphas)([0, 1, 1.5, 2, 7])
    torch.testing.assert_close(a**2, torch.tensor([0.81, 0.49, 0.37, 0.25, 0.25]))
    torch.testing.assert_close(a**2 + s**2, torch.ones(5))


def test_the_alphas_of_stable_diffusion_are_those_of_its_training():
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    expected, product = [], 1.0
    for beta in betas.tolist():
        product *= 1 - beta
        expected.append(product)
    torch.testing.assert_close(stable_diffusion_alphas(), torch.tensor(expected))
