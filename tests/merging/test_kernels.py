"""The torch operations below MergePlan, each against the obvious one."""

import pytest
import torch
from torch import Tensor

from tome_core.merging import kernels

LENGTHS = [1, 4, 2, 1, 7]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def segments(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return rows, order, starts and counts of five segments over fifteen rows in random order."""
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(15, 5, generator=generator, dtype=torch.float64).to(dtype)
    counts = torch.tensor(LENGTHS)
    return rows, torch.randperm(15, generator=generator), counts.cumsum(0) - counts, counts.float()


def sum_slowly(rows: Tensor, order: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sums in float64."""
    entries = rows[order].double() * weights.double().unsqueeze(-1)
    return torch.stack([part.sum(dim=0) for part in entries.split(LENGTHS)])


def without_bags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_BAG_DEVICES", ())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bags", [True, False])
def test_sum_segments_is_the_sum_of_each_segment(
    dtype: torch.dtype, weighted: bool, bags: bool, monkeypatch: pytest.MonkeyPatch
):
    if not bags:
        without_bags(monkeypatch)
    rows, order, starts, _ = segments(dtype)
    weights = torch.arange(1, 16).to(dtype)
    result = kernels.sum_segments(rows, order, starts, weights if weighted else None)
    expected = sum_slowly(rows, order, weights if weighted else torch.ones(15))
    assert result.dtype == dtype
    torch.testing.assert_close(result, expected.to(dtype), rtol=torch.finfo(dtype).eps, atol=2e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bags", [True, False])
def test_mean_segments_is_the_mean_of_each_segment(dtype: torch.dtype, bags: bool, monkeypatch: pytest.MonkeyPatch):
    if not bags:
        without_bags(monkeypatch)
    rows, order, starts, counts = segments(dtype)
    result = kernels.mean_segments(rows, order, starts, counts)
    expected = sum_slowly(rows, order, torch.ones(15)) / counts.unsqueeze(-1)
    assert result.dtype == dtype
    torch.testing.assert_close(result, expected.to(dtype), rtol=torch.finfo(dtype).eps, atol=2e-7)


def test_the_gradient_is_the_same_with_and_without_bags(monkeypatch: pytest.MonkeyPatch):
    gradients = []
    for _ in range(2):
        rows, order, starts, counts = segments(torch.float64)
        rows.requires_grad_()
        kernels.mean_segments(rows, order, starts, counts).square().sum().backward()
        gradients.append(rows.grad)
        without_bags(monkeypatch)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_gather_rows_is_indexing_and_its_gradient_a_sum():
    rows = torch.arange(6.0).reshape(3, 2).requires_grad_()
    gathered = kernels.gather_rows(rows, torch.tensor([2, 0, 2]))
    assert gathered.tolist() == [[4, 5], [0, 1], [4, 5]]
    gathered.sum().backward()
    assert rows.grad is not None
    assert rows.grad.tolist() == [[1, 1], [0, 0], [2, 2]]


def test_widen_changes_half_types_alone():
    for dtype in (torch.float32, torch.float64):
        x = torch.zeros(2, dtype=dtype)
        assert kernels.widen(x) is x
    for dtype in (torch.float16, torch.bfloat16):
        assert kernels.widen(torch.zeros(2, dtype=dtype)).dtype == torch.float32
