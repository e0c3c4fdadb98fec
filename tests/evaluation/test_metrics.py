"""Deviations against plain formulas."""

import math

import pytest
import torch

from tome_core.evaluation.metrics import cosine_distance, psnr, relative_deviation, ssim


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_psnr_is_the_textbook_formula_for_each_picture():
    pictures, references = noise(3, 5, 7, 3, seed=1), noise(3, 5, 7, 3, seed=2)
    for got, picture, reference in zip(psnr(pictures, references), pictures, references, strict=True):
        error = sum((a - b) ** 2 for a, b in zip(picture.flatten().tolist(), reference.flatten().tolist(), strict=True))
        assert got.item() == pytest.approx(10 * math.log10(1 / (error / picture.numel())))


def test_psnr_of_bytes_is_that_of_fractions():
    pictures, references = noise(2, 4, 4, 3, seed=1).mul(255).byte(), noise(2, 4, 4, 3, seed=2).mul(255).byte()
    expected = psnr(pictures.double() / 255, references.double() / 255)
    assert psnr(pictures, references, peak=255).tolist() == pytest.approx(expected.tolist())


def test_relative_deviation_is_norm_of_difference_over_norm_for_each_row():
    reference = torch.tensor([[[3.0, 4.0]], [[0.0, 2.0]]])
    x = torch.tensor([[[3.0, 5.0]], [[0.0, 2.0]]])
    assert relative_deviation(x, reference).tolist() == pytest.approx([0.2, 0.0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_equal_tensors_deviate_by_nothing(dtype):
    x = noise(2, 4, 3).to(dtype)
    x[1] = 0
    assert relative_deviation(x, x.clone()).tolist() == [0, 0]
    assert psnr(x, x.clone()).tolist() == [math.inf, math.inf]


def slow_ssim(x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the mean index over every whole window of two channels [H, W], term by term as in the paper."""
    places = torch.arange(11).double() - 5
    window = torch.exp(-(places[:, None] ** 2 + places**2) / (2 * 1.5**2))
    window /= window.sum()
    indices = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a, b = (z[top : top + 11, left : left + 11].double() for z in (x, y))
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            covariance = (window * (a - mean_a) * (b - mean_b)).sum()
            luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
            indices.append(luminance * (2 * covariance + 9e-4) / (var_a + var_b + 9e-4))
    return torch.stack(indices).mean().item()


def test_ssim_is_the_papers_index_of_each_channel():
    pictures, references = noise(2, 3, 13, 15, seed=1), noise(2, 3, 13, 15, seed=2)
    references[1] = 0.8 * pictures[1] + 0.1
    for got, picture, reference in zip(ssim(pictures, references), pictures, references, strict=True):
        expected = [slow_ssim(x, y) for x, y in zip(picture, reference, strict=True)]
        assert got.item() == pytest.approx(sum(expected) / 3, abs=1e-9)


def test_ssim_is_one_for_equal_pictures_and_falls_with_noise():
    picture = noise(1, 3, 16, 16)
    values = [
        ssim((picture + strength * noise(1, 3, 16, 16, seed=3)).clamp(0, 1), picture).item()
        for strength in (0, 0.1, 0.5)
    ]
    assert values[0] == pytest.approx(1)
    assert 1 > values[1] > values[2] > 0


def test_ssim_sees_a_change_of_hue_alone():
    red, green = torch.zeros(2, 1, 3, 16, 16)
    red[:, 0], green[:, 1] = 1, 1
    assert ssim(red, green).item() < 0.5


def test_ssim_needs_a_whole_window():
    with pytest.raises(ValueError, match=r"pictures must be at least 11 pixels a side, got \[10, 20\]"):
        ssim(torch.zeros(1, 3, 10, 20), torch.zeros(1, 3, 10, 20))


def test_cosine_distance_is_nought_for_the_same_direction_and_two_for_the_opposite():
    x = torch.tensor([[1.0, 2.0], [1.0, 0.0], [1.0, 0.0]])
    reference = torch.tensor([[2.0, 4.0], [0.0, 1.0], [-3.0, 0.0]])
    assert cosine_distance(x, reference).tolist() == pytest.approx([0, 1, 2])


@pytest.mark.parametrize("measure", [psnr, relative_deviation, ssim, cosine_distance])
def test_another_shape_is_told(measure):
    with pytest.raises(ValueError, match=r"reference must be of shape \[2, 3\], got \[1, 3\]"):
        measure(torch.zeros(2, 3), torch.zeros(1, 3))
