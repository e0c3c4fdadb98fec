"""The clean image predicted at the previous step, as features for matching."""

import pytest
import torch
from torch import Tensor

from tome_core.speed.plans.estimate import estimate_features, is_estimated, keep_prediction
from tome_core.speed.plans.images import ImageTracker
from tome_core.speed.plans.schedule import NoiseSchedule, share_of_steps, variance_preserving

ALPHAS = torch.linspace(0.999, 0.001, 1000)
CENTRE = slice(4, None, 9)  # of each channel's nine features, the pixel itself


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def noisy(z: Tensor, n: Tensor, t: float) -> Tensor:
    alpha = ALPHAS[int(t)]
    return alpha.sqrt() * z + (1 - alpha).sqrt() * n


Z, N = noise(2, 4, 6, 5, seed=1), noise(2, 4, 6, 5, seed=2)


class Sampler:
    """Looks at the images of a run and learns from its predictions, as a model call does."""

    def __init__(self, alphas: Tensor = ALPHAS, prediction: str = "epsilon") -> None:
        self.tracker = ImageTracker()
        self.schedule = NoiseSchedule(share_of_steps(1000), prediction, variance_preserving(alphas))

    def __call__(self, x: Tensor, t: Tensor | float, predicted: Tensor, text: Tensor | None = None) -> Tensor:
        """Return [B, C, height, width], what is known of the clean latents of x before the model is called."""
        timesteps = torch.as_tensor(t, dtype=torch.float).expand(len(x)).tolist()
        images = self.tracker.meet(x, timesteps)
        features = estimate_features(images, images[0].x.device)[:, CENTRE]
        assert is_estimated(images) or torch.equal(features, x)
        assert keep_prediction(images, predicted, text, self.schedule)
        return features


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_it_is_what_the_model_predicted_in_the_last_step(prediction):
    sampler = Sampler(ALPHAS, prediction)
    for t in (900, 800, 700):
        alpha = ALPHAS[t]
        v = alpha.sqrt() * N - (1 - alpha).sqrt() * Z
        got = sampler(noisy(Z, N, t), torch.tensor(t), {"epsilon": N, "v_prediction": v, "sample": Z}[prediction])
    torch.testing.assert_close(got, Z, atol=1e-4, rtol=1e-4)


def test_a_prediction_with_learned_variances_teaches_nothing():
    images = ImageTracker().meet(noisy(Z, N, 900), [900.0] * 2)
    assert not keep_prediction(images, torch.cat([N, N], dim=1), None, Sampler().schedule)
    assert images[0].clean == {}


def test_a_timestep_that_holds_no_signal_gives_finite_features():
    sampler = Sampler(torch.linspace(0.999, 0.0, 1000))
    for t in (999, 999 - 1e-6, 700):
        features = sampler(N, t, N + 0.1)
    assert features.isfinite().all()


def test_the_first_two_steps_of_a_run_see_their_noisy_latent_also_after_another_run():
    sampler = Sampler()
    for _ in range(2):
        for t in (900, 800):
            x = noisy(Z, N, t)
            assert torch.equal(sampler(x, t, N), x)
        assert not torch.equal(sampler(noisy(Z, N, 700), 700, N), noisy(Z, N, 700))


def test_features_are_a_latents_pixel_and_its_neighbours():
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    features = estimate_features(ImageTracker().meet(x, [500.0]), x.device)
    assert features.shape == (1, 9, 3, 4)
    assert features[0, :, 1, 2].tolist() == [1, 2, 3, 5, 6, 7, 9, 10, 11]
    assert features[0, :, 0, 0].tolist() == [0, 0, 1, 0, 0, 1, 4, 4, 5]


def sample(layout: list[list[int]], sampler: Sampler | None = None, same_noise: bool = False) -> dict[int, Tensor]:
    """Return what is estimated for each row in the third step; rows 2 i and 2 i + 1 are image i's two texts.

    Images begin with the same noise or another one. Each step moves them by what their own two rows predicted.
    """
    sampler, found, images = sampler or Sampler(), {}, 12
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
    sampler, x = Sampler(), noise(12, 4, 6, 5, seed=4)
    for t in (900, 800)[:steps]:
        sampler(x, t, noise(12, 4, 6, 5, seed=9), noise(12, 3, 2, seed=9))
    expected = sample([ALL])
    for row, features in sample([ALL], sampler).items():
        assert torch.equal(features, expected[row])


def test_a_row_of_another_run_sees_its_noisy_latent():
    sampler = Sampler()
    for t in (900, 800):
        sampler(noisy(Z, N, t), t, N)
    other = noise(2, 4, 6, 5, seed=9)
    assert torch.equal(sampler(other, 700, N), other)
    assert torch.equal(sampler(other[:, :, :4], 600, N[:, :, :4]), other[:, :, :4])


def test_rows_at_other_timesteps_are_known_by_their_own():
    sampler = Sampler()
    for t in (900, 800, 700):
        x = torch.cat([noisy(Z[:1], N[:1], t), noisy(Z[1:], N[1:], t - 400)])
        got = sampler(x, torch.tensor([t, t - 400.0]), N)
    torch.testing.assert_close(got, Z, atol=1e-4, rtol=1e-4)
