import pytest
import torch

from training.demo.optimisers import Muon, orthogonal


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (8, 3, 3, 3)])
def test_orthogonal_brings_all_singular_values_near_one(shape: tuple[int, ...]):
    direction = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    update = orthogonal(direction)
    rows, columns = update.flatten(1).shape
    values = torch.linalg.svdvals(update.flatten(1)) / max(1.0, rows / columns) ** 0.5
    assert update.shape == direction.shape
    assert values.min() > 0.6 and values.max() < 1.3


def test_a_step_goes_down_a_quadratic():
    target = torch.randn(5, 7, generator=torch.Generator().manual_seed(1))
    param = torch.nn.Parameter(torch.zeros(5, 7))
    optimiser = Muon([param], lr=0.04)
    losses = []
    for _ in range(80):
        loss = (param - target).square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


def test_its_state_can_be_saved_and_taken_up():
    def walk(steps: int, optimiser: Muon, param: torch.nn.Parameter) -> None:
        for _ in range(steps):
            param.grad = param.detach() - 1
            optimiser.step()

    straight = torch.nn.Parameter(torch.zeros(3, 3) + torch.eye(3))
    walk(6, Muon([straight], lr=0.04), straight)
    broken = torch.nn.Parameter(torch.zeros(3, 3) + torch.eye(3))
    first = Muon([broken], lr=0.04)
    walk(3, first, broken)
    second = Muon([broken], lr=0.04)
    second.load_state_dict(first.state_dict())
    walk(3, second, broken)
    assert torch.equal(straight, broken)
