"""Deviations against plain formulas."""

import math

import pytest
import torch

from tome_core.metrics import compare_pictures, psnr, relative_deviation, ssim


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


@pytest.mark.parametrize("measure", [psnr, relative_deviation, ssim])
def test_another_shape_is_told(measure):
    with pytest.raises(ValueError, match=r"reference must be of shape \[2, 3\], got \[1, 3\]"):
        measure(torch.zeros(2, 3), torch.zeros(1, 3))


def some_pictures(count: int = 1, side: int = 16) -> torch.Tensor:
    return torch.rand(count, side, side, 3, generator=torch.Generator().manual_seed(0))


def test_equal_pictures_are_equal():
    found = compare_pictures(some_pictures(2), some_pictures(2))
    assert found.mean_psnr == float("inf") and found.ssim == pytest.approx((1.0, 1.0))
    assert not found.difference.any()
    assert str(found) == "1: the images are equal\n2: the images are equal"


def test_the_difference_is_absolute_and_brightened_up_to_white():
    reference = torch.full((1, 16, 16, 3), 0.5)
    found = compare_pictures(reference - 0.1, reference, gain=4.0)
    assert torch.allclose(found.difference, torch.tensor(0.4))
    assert found.psnr[0] == pytest.approx(20.0, abs=1e-4)
    assert compare_pictures(reference - 0.1, reference, gain=50.0).difference.max() == 1


def test_a_mean_tells_of_the_pictures_that_differ():
    batch = some_pictures(2)
    other = batch.clone()
    other[1] = (other[1] - 0.1).clamp(0, 1)
    found = compare_pictures(batch, other)
    assert found.psnr[0] == float("inf") and found.mean_psnr == found.psnr[1] < 30


def test_one_picture_serves_for_a_batch_in_either_place():
    one, three = some_pictures(1), some_pictures(3)
    assert len(compare_pictures(three, one).psnr) == len(compare_pictures(one, three).psnr) == 3


def test_transparency_is_not_looked_at():
    opaque, clear = (torch.cat([some_pictures(), torch.full((1, 16, 16, 1), alpha)], dim=-1) for alpha in (0.0, 1.0))
    assert compare_pictures(opaque, clear).mean_psnr == float("inf")


def test_pictures_below_the_window_have_no_ssim_and_say_so():
    found = compare_pictures(some_pictures(side=8), 1 - some_pictures(side=8))
    assert found.ssim == (None,) and found.mean_ssim != found.mean_ssim
    assert str(found).endswith("too small for SSIM")


@pytest.mark.parametrize(
    ("references", "message"),
    [
        (torch.zeros(1, 16, 8, 3), "^images must be of one size, got 16x16 pixels and 8x16 pixels$"),
        (torch.zeros(2, 16, 16, 3), "^batches must be of one length, or one of them 1, got 3 and 2$"),
    ],
)
def test_what_cannot_be_compared_is_refused(references: torch.Tensor, message: str):
    with pytest.raises(ValueError, match=message):
        compare_pictures(some_pictures(3) if len(references) == 2 else some_pictures(), references)
