"""The maths of maps, against slow and obvious references."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tome_core.attention_maps import attention_maps, entropy, overlap, resize


def random_pair(batch: int = 2, tokens: int = 35, rows: int = 7, heads: int = 3, width: int = 4):
    random = torch.Generator().manual_seed(0)
    shape = heads * width
    return torch.randn(batch, tokens, shape, generator=random), torch.randn(batch, rows, shape, generator=random)


@pytest.mark.parametrize("scale", [None, 0.3])
def test_the_maps_are_the_softmax_as_a_mean_over_heads(scale):
    q, k = random_pair()
    maps = attention_maps(q, k, 3, [1, 5], scale=scale)
    assert maps.shape == (2, 2, 35)
    for b in range(2):
        for n in (0, 17, 34):
            shares = torch.zeros(7)
            for head in range(3):
                one, all_rows = q[b, n, head * 4 : head * 4 + 4], k[b, :, head * 4 : head * 4 + 4]
                products = [math.exp((0.5 if scale is None else scale) * float(one @ row)) for row in all_rows]
                shares += torch.tensor(products) / sum(products) / 3
            assert torch.allclose(maps[b, :, n], shares[[1, 5]], atol=1e-6)


def test_all_rows_together_have_all_attention():
    q, k = random_pair()
    assert torch.allclose(attention_maps(q, k, 3, range(7)).sum(dim=1), torch.ones(2, 35), atol=1e-6)


def test_a_single_row_has_all_attention_everywhere():
    q, k = random_pair(rows=1)
    assert torch.equal(attention_maps(q, k, 3, [0]), torch.ones(2, 1, 35))


def test_a_mask_takes_a_row_out_as_if_it_were_not_there():
    q, k = random_pair()
    mask = torch.zeros(2, 1, 7)
    mask[..., 4] = -10000.0
    kept = [0, 1, 2, 3, 5, 6]
    masked = attention_maps(q, k, 3, kept, mask=mask)
    assert torch.allclose(masked, attention_maps(q, k[:, kept], 3, range(6)), atol=1e-6)
    assert not torch.allclose(masked, attention_maps(q, k, 3, kept), atol=1e-3)


def test_a_row_of_zeros_keeps_some_attention():
    q, k = random_pair()
    k[:, 4] = 0
    assert (attention_maps(q, k, 3, [4]) > 1e-3).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype):
    q, k = (x.to(dtype) for x in random_pair())
    maps = attention_maps(q, k, 3, [2])
    assert maps.dtype == torch.float32
    assert torch.allclose(maps, attention_maps(q.float(), k.float(), 3, [2]), atol=1e-6)


@pytest.mark.parametrize("rows", [[], [7], [-1]])
def test_rows_that_are_not_there_are_refused(rows):
    q, k = random_pair()
    with pytest.raises(ValueError) as caught:
        attention_maps(q, k, 3, rows)
    assert str(caught.value) == f"rows must be one or more from 0 to 6, got {rows}"


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_entropy_is_between_one_place_and_everywhere(height, width, seed):
    maps = torch.rand(2, height, width, generator=torch.Generator().manual_seed(seed))
    most = math.log(height * width)
    assert ((entropy(maps) >= 0) & (entropy(maps) <= most + 1e-5)).all()
    assert torch.allclose(entropy(torch.full((1, height, width), 0.3)), torch.tensor([most]), atol=1e-5)
    assert torch.allclose(entropy(torch.zeros(1, height, width)), torch.tensor([most]), atol=1e-5)
    one_hot = torch.zeros(1, height, width)
    one_hot[0, -1, -1] = 0.2
    assert entropy(one_hot).item() == 0


def test_overlap_is_1_on_itself_0_on_other_places_and_symmetric():
    maps = torch.zeros(3, 2, 4)
    maps[0, :, :2], maps[1, :, 2:], maps[2, :, 1:3] = 0.5, 0.1, 0.7
    expected = torch.tensor([[1, 0, 0.5], [0, 1, 0.5], [0.5, 0.5, 1]])
    assert torch.allclose(overlap(maps), expected)


def test_a_map_is_interpolated_to_another_grid():
    maps = torch.rand(1, 2, 5, 7, generator=torch.Generator().manual_seed(0))
    assert resize(maps, (5, 7)) is maps
    assert resize(maps, (11, 13)).shape == (1, 2, 11, 13)
    assert torch.allclose(resize(torch.full((1, 1, 3, 3), 0.4), (7, 5)), torch.tensor(0.4))
