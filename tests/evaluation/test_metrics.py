"""Deviations against plain formulas."""

import math

import pytest
import torch

from tome_core.evaluation.metrics import psnr, relative_deviation


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


@pytest.mark.parametrize("measure", [psnr, relative_deviation])
def test_another_shape_is_told(measure):
    with pytest.raises(ValueError, match=r"reference must be of shape \[2, 3\], got \[1, 3\]"):
        measure(torch.zeros(2, 3), torch.zeros(1, 3))
