"""The images of a sampling run, recognised from call to call and from step to step."""

import math

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tome_core.speed.plans.images import ImageTracker, fingerprints


def noise(rows: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, *(shape or (4, 6, 5)), generator=torch.Generator().manual_seed(seed))


def step(x: Tensor, seed: int = 5) -> Tensor:
    """Return latents after a step that leaves most of the noise in place."""
    return 0.9 * x + 0.2 * noise(*x.shape, seed=seed)


def test_rows_of_one_latent_are_one_image_in_one_call_or_several():
    tracker, x = ImageTracker(), noise(2)
    first, second, again = tracker.meet(x[[0, 1, 0]], [800] * 3)
    assert first is again is not second
    assert tracker.meet(x[[1, 0]], [800] * 2) == [second, first]


@pytest.mark.parametrize("calls", [[[0, 1]], [[1, 0]], [[0], [1]], [[1], [0]]])
def test_an_image_is_known_in_the_next_step_however_it_is_batched(calls):
    tracker, x = ImageTracker(), noise(2)
    before = tracker.meet(x, [800] * 2)
    for rows in calls:
        for row, image in zip(rows, tracker.meet(step(x)[rows], [700] * len(rows)), strict=True):
            assert image.before is before[row]
            assert not image.is_first


def test_two_steps_of_latents_are_kept_whatever_the_number_of_calls():
    tracker, x = ImageTracker(), noise(12)
    for timestep in (900, 800, 700, 600):
        images = [tracker.meet(x[[row]], [timestep])[0] for row in range(12)]
        x = step(x)
    assert len(tracker._last) == len(tracker._present) == 12
    assert all(image.before.t == 700 and image.before.before is None for image in images)


@pytest.mark.parametrize("timesteps", [(800, 900), (800, 700, 800)])
def test_timesteps_that_go_up_begin_a_run(timesteps):
    tracker, x = ImageTracker(), noise(1)
    for timestep in timesteps:
        (image,) = tracker.meet(x, [timestep])
    assert image.is_first
    assert tracker._last == []


def test_a_repeated_timestep_is_the_same_step_as_in_samplers_of_second_order():
    tracker, x = ImageTracker(), noise(1)
    (first,) = tracker.meet(x, [800])
    (predictor,) = tracker.meet(step(x), [700])
    (corrector,) = tracker.meet(step(x, seed=6), [700])
    assert predictor.before is corrector.before is first


def test_another_picture_another_size_and_another_batch_are_first_steps():
    tracker, x = ImageTracker(), noise(2)
    tracker.meet(x, [800] * 2)
    assert tracker.meet(noise(1, seed=9), [700])[0].is_first
    assert tracker.meet(step(x)[:, :, :4], [700] * 2)[0].is_first
    assert [image.is_first for image in tracker.meet(torch.cat([step(x), noise(1, seed=8)]), [700] * 3)] == [0, 0, 1]


@pytest.mark.parametrize("is_announced", [True, False])
def test_where_the_noise_is_replaced_the_images_of_a_run_that_is_announced_are_known_by_their_place(is_announced):
    tracker = ImageTracker(is_announced=is_announced)
    before = tracker.meet(noise(2)[[0, 1, 0, 1]], [800] * 4)
    images = tracker.meet(noise(2, seed=7)[[0, 1, 0, 1]], [700] * 4)
    assert [image.before for image in images] == (before if is_announced else [None] * 4)


def test_images_that_differ_by_little_are_told_apart():
    tracker, x = ImageTracker(), noise(1, 4, 64, 64).repeat(2, 1, 1, 1)
    x[1] += 1e-2 * noise(1, 4, 64, 64, seed=3)[0]
    before = tracker.meet(x, [800] * 2)
    x = torch.stack([before[0].x, before[1].x + (before[1].x - before[0].x)])  # the second moves on as it did
    x = 0.9 * x + 0.2 * noise(1, 4, 64, 64, seed=4)
    assert [image.before for image in tracker.meet(x, [700] * 2)] == before


@pytest.mark.parametrize("rows", [[0], [1], [0, 1], [1, 0, 1]])
def test_the_distance_is_that_of_the_directions_of_the_nearest_pair(rows):
    tracker, x = ImageTracker(), noise(2)
    assert tracker.distance(x) == math.inf
    tracker.meet(x, [800] * 2)
    assert tracker.distance(3 * x[rows]) == pytest.approx(0, abs=1e-6)
    later = step(x)[rows]
    directions = [[y / y.norm() for y in z] for z in (later, x)]
    expected = min((one - other).norm().item() for one in directions[0] for other in directions[1])
    assert tracker.distance(later) == pytest.approx(expected)
    assert 0 < expected < 1 < tracker.distance(noise(2, seed=9))


def test_there_is_no_distance_to_images_of_another_size():
    tracker, x = ImageTracker(), noise(2)
    tracker.meet(x, [800] * 2)
    assert tracker.distance(x[:, :, :4]) == math.inf


def test_the_timestep_is_that_of_the_present_step():
    tracker, x = ImageTracker(), noise(2)
    assert tracker.timestep == math.inf
    for timesteps in ([800, 400], [700, 300]):
        tracker.meet(x, timesteps)
        assert tracker.timestep == timesteps[0]


def test_rows_at_different_timesteps_are_different_images():
    tracker, x = ImageTracker(), noise(1)
    first, second = tracker.meet(x[[0, 0]], [800, 400])
    assert first is not second


def test_the_caller_may_change_its_latents_in_place():
    tracker, x = ImageTracker(), noise(1)
    (image,) = tracker.meet(x, [800])
    expected = x[0].clone()
    x.zero_()
    assert torch.equal(image.x, expected)


class Largest(TorchDispatchMode):
    """Remembers the most elements that any result had."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            self.elements = max(self.elements, tensor.numel() if isinstance(tensor, Tensor) else 0)
        return result


def test_nothing_is_as_large_as_every_row_against_every_other():
    tracker, x = ImageTracker(), noise(16, 4, 8, 8)
    tracker.meet(x, [800] * 16)
    with Largest() as largest:
        tracker.meet(step(x), [700] * 16)
    assert x.numel() <= largest.elements <= 2 * x.numel()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_fingerprint_tells_rows_apart_by_their_smallest_difference(dtype):
    x = noise(3).to(dtype)
    x[2] = x[0]
    x[1] = x[0]
    x[1, 3, 5, 4] *= 1.01
    one, other, same = fingerprints(x)
    assert one == same != other
    assert fingerprints(x[:1]) == [one]
