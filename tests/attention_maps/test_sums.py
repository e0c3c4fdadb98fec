"""Sums of maps that come on several grids, of several sets of phrases."""

import torch

from tome_core.attention_maps import resize
from tome_core.attention_maps.sums import MapSums


def maps(count=1, size=(4, 6), seed=0, images=1):
    return torch.rand(images, count, *size, generator=torch.Generator().manual_seed(seed))


def test_maps_are_the_mean_of_all_that_was_added_on_the_finest_grid():
    sums, parts = MapSums(), [maps(2, seed=0), maps(2, seed=1), maps(2, (2, 3), seed=2)]
    sums.open("set", ("cat", "dog"))
    for own in parts:
        sums.add("set", own)
    found = sums.result(("a note",))
    assert found is not None and found.labels == ("cat", "dog") and found.calls == 3 and found.notes == ("a note",)
    assert torch.allclose(found.maps, torch.stack([resize(own, (4, 6)) for own in parts]).mean(0), atol=1e-6)


def test_sets_stand_in_the_order_in_which_they_were_opened_and_one_that_never_came_is_0():
    sums = MapSums()
    for key in ("b", "a", "b", "c"):
        sums.open(key, (key,))
    sums.add("c", maps(seed=1))
    sums.add("b", maps(size=(2, 3)))
    found = sums.result()
    assert found is not None and found.labels == ("b", "a", "c")
    assert found.maps[0, 0].min() > 0 and found.maps[0, 1].abs().max() == 0
    assert torch.allclose(found.maps[0, 2], maps(seed=1)[0, 0])


def test_what_is_added_to_a_part_of_the_picture_counts_there_alone():
    sums = MapSums()
    sums.open("set", ("cat",))
    sums.add("set", maps(size=(2, 6)), (4, 6), top=2)
    sums.add("set", maps(size=(2, 2), seed=1), (4, 6), top=2, left=4)
    found = sums.result()
    assert found is not None and found.maps[..., :2, :].abs().max() == 0
    assert torch.allclose(found.maps[0, 0, 2:, :4], maps(size=(2, 6))[0, 0, :, :4])
    both = (maps(size=(2, 6))[0, 0, :, 4:] + maps(size=(2, 2), seed=1)[0, 0]) / 2
    assert torch.allclose(found.maps[0, 0, 2:, 4:], both)


def test_there_is_no_result_before_anything_was_added():
    sums = MapSums()
    sums.open("set", ("cat",))
    assert sums.result() is None
