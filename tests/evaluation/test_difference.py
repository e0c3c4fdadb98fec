"""Two batches of pictures compared as an artist's node shows them."""

from __future__ import annotations

import pytest
import torch

from tome_core.evaluation.difference import compare_pictures


def pictures(count: int = 1, side: int = 16) -> torch.Tensor:
    return torch.rand(count, side, side, 3, generator=torch.Generator().manual_seed(0))


def test_equal_pictures_are_equal():
    found = compare_pictures(pictures(2), pictures(2))
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
    batch = pictures(2)
    other = batch.clone()
    other[1] = (other[1] - 0.1).clamp(0, 1)
    found = compare_pictures(batch, other)
    assert found.psnr[0] == float("inf") and found.mean_psnr == found.psnr[1] < 30


def test_one_picture_serves_for_a_batch_in_either_place():
    one, three = pictures(1), pictures(3)
    assert len(compare_pictures(three, one).psnr) == len(compare_pictures(one, three).psnr) == 3


def test_transparency_is_not_looked_at():
    opaque, clear = (torch.cat([pictures(), torch.full((1, 16, 16, 1), alpha)], dim=-1) for alpha in (0.0, 1.0))
    assert compare_pictures(opaque, clear).mean_psnr == float("inf")


def test_pictures_below_the_window_have_no_ssim_and_say_so():
    found = compare_pictures(pictures(side=8), 1 - pictures(side=8))
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
        compare_pictures(pictures(3) if len(references) == 2 else pictures(), references)
