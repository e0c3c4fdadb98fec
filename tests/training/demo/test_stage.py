from pathlib import Path

import pytest
import torch

from training.demo import stage as stage_module
from training.demo.stage import Stage


@pytest.fixture(autouse=True)
def save_after_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, "SAVE_EVERY", 0.0)


def run(folder: Path, killed_at: int | None = None, writes: bool = True) -> tuple[torch.nn.Linear, list[int]]:
    """Train a net for five steps, or up to a step in which the process dies."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    net = torch.nn.Linear(2, 2)
    stage = Stage(folder, "probe", 5, {"net": net}, writes=writes)
    stage.resume()
    steps = []
    for step in stage.run():
        if step == killed_at:
            break
        steps.append(step)
        with torch.no_grad():
            net.weight.mul_(step + 2)
        stage.losses.append(float(step))
    assert stage.losses == [float(step) for step in range(stage.done)]
    return net, steps


def test_a_killed_stage_goes_on_where_it_last_saved_and_ends_with_the_same_weights(tmp_path: Path):
    straight, steps = run(tmp_path / "straight")
    assert steps == [0, 1, 2, 3, 4]
    run(tmp_path / "killed", killed_at=3)
    resumed, steps = run(tmp_path / "killed")
    assert steps == [3, 4]
    assert torch.equal(straight.weight, resumed.weight)
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["probe.pt"]


def test_a_finished_stage_does_nothing_more(tmp_path: Path):
    done, _ = run(tmp_path)
    again, steps = run(tmp_path)
    assert steps == []
    assert torch.equal(done.weight, again.weight)


def test_a_process_that_does_not_write_leaves_no_file(tmp_path: Path):
    run(tmp_path, writes=False)
    assert list(tmp_path.iterdir()) == []
