import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tome_core.merging import bipartite_soft_matching_2d
from tome_core.speed import LevelReport, SpeedConfig, SpeedReport, SpeedState


def new_state(**settings) -> SpeedState:
    config = SpeedConfig(**settings)
    levels = tuple(LevelReport(level, 2**level, 1, chosen=True) for level in range(1, 5))
    return SpeedState(config, SpeedReport("Model", config, config.metric, levels))


def features(batch: int = 2, channels: int = 6, height: int = 8, width: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(seed))


def assignment(state: SpeedState, x: Tensor, timestep=500, level: int = 1, grid=(8, 8)) -> Tensor:
    """Return [B, N], the slot of each token, from one model call."""
    state.begin(timestep)
    state.observe(x)
    plan = state.plan(level, grid)
    assert plan is not None
    return plan.assignment


def test_one_plan_serves_every_block_of_a_level():
    state = new_state()
    state.begin(500)
    state.observe(features())
    assert state.plan(1, (8, 8)) is state.plan(1, (8, 8))
    assert state.plan(1, (8, 8)) is not state.plan(2, (4, 4))


def test_a_plan_is_that_of_the_matching_on_what_was_observed():
    x = features(height=5, width=7)
    expected = bipartite_soft_matching_2d(x.flatten(2).transpose(1, 2), 5, 7, 17)
    assert torch.equal(assignment(new_state(), x, grid=(5, 7)), expected.assignment)


def test_a_coarser_level_is_matched_on_the_mean_of_each_square():
    x = features(height=8, width=12)
    means = x.unflatten(2, (4, 2)).unflatten(4, (6, 2)).mean(dim=(3, 5))
    expected = bipartite_soft_matching_2d(means.flatten(2).transpose(1, 2), 4, 6, 12)
    assert torch.equal(assignment(new_state(), x, grid=(4, 6)), expected.assignment)


@pytest.mark.parametrize("grid", [(5, 17), (3, 9), (2, 5), (1, 3)])
def test_sizes_that_do_not_divide_have_a_plan_of_every_token(grid):
    plan_of = assignment(new_state(), features(height=9, width=33), grid=grid)
    assert plan_of.shape == (2, grid[0] * grid[1])


def test_a_row_is_matched_as_if_it_were_alone():
    x = features(batch=3)
    together = assignment(new_state(), x)
    for row in range(3):
        assert torch.equal(assignment(new_state(), x[row : row + 1]), together[row : row + 1])


def test_rows_with_the_same_features_merge_alike():
    x = features(batch=2)
    of_all = assignment(new_state(matching="bipartite"), torch.cat([x, x]))
    assert torch.equal(of_all[:2], of_all[2:])


def test_a_call_begins_with_no_plan_of_the_call_before():
    state = new_state()
    assignment(state, features(seed=0))
    state.begin(500)
    assert state.plan(1, (8, 8)) is None


def test_what_is_observed_later_replaces_the_plans_made_before():
    state = new_state()
    before = assignment(state, features(seed=0))
    state.observe(features(seed=1))
    assert not torch.equal(state.plan(1, (8, 8)).assignment, before)


def test_plans_stay_after_the_call_until_reset():
    state = new_state()
    assignment(state, features())
    state.end()
    assert not state.is_active
    assert state.plan(1, (8, 8)) is not None
    assert state.plan(2, (4, 4)) is None  # what plans are made from is gone
    state.reset()
    assert state.plan(1, (8, 8)) is None


@given(
    ratio=st.floats(0, 1),
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    stride=st.sampled_from([(2, 2), (1, 2), (3, 1), (2, 4)]),
    matching=st.sampled_from(["bipartite", "window"]),
)
def test_as_many_merge_as_asked_for_or_the_report_says_why_not(ratio, grid, stride, matching):
    state = new_state(ratio=ratio, stride=stride, matching=matching)
    state.begin(500)
    state.observe(features(batch=1))
    plan, tokens = state.plan(1, grid), grid[0] * grid[1]
    state.enter(1, grid, "attention", plan.kept)
    cells = (grid[0] // stride[0]) * (grid[1] // stride[1])
    most = cells * (stride[0] * stride[1] - 1) if matching == "window" or cells == 0 else tokens - cells
    asked = int(tokens * ratio)
    assert tokens - plan.kept == min(asked, most)
    assert plan.sizes.sum() == tokens
    is_short = ratio > 0 and (asked == 0 or asked > most)
    assert any(note.startswith("level 1: ") for note in state._report.notes) == is_short


@pytest.mark.parametrize(
    ("window", "timestep", "is_active"),
    [
        ((0.0, 1.0), 999, True),
        ((0.2, 0.8), 900, False),
        ((0.2, 0.8), 800, True),
        ((0.2, 0.8), 500.0, True),
        ((0.2, 0.8), torch.tensor(100), False),
        ((0.2, 0.8), torch.tensor([500, 500]), True),
        ((0.2, 0.8), torch.tensor([500, 100]), False),
        ((0.5, 1.0), 0, True),
        ((0.0, 0.5), 1000, True),
    ],
)
def test_merging_is_on_only_in_the_chosen_part_of_the_run(window, timestep, is_active):
    state = new_state(start_percent=window[0], end_percent=window[1])
    state.begin(timestep)
    assert state.is_active == is_active


def test_the_run_is_counted_in_the_models_own_timesteps():
    config = SpeedConfig(start_percent=0.5)
    state = SpeedState(config, SpeedReport("Model", config, "latent", ()), train_timesteps=100)
    state.begin(60)
    assert not state.is_active
    state.begin(40)
    assert state.is_active


class UnreadableTimestep(Tensor):
    """A tensor on a device that must not be waited for."""

    def tolist(self):
        raise AssertionError("the timestep was read back from its device")

    item = __float__ = __int__ = __bool__ = tolist


def test_the_timestep_is_read_back_only_if_the_config_needs_it():
    timestep = torch.tensor(500.0).as_subclass(UnreadableTimestep)
    new_state().begin(timestep)
    for settings in ({"seed": 1}, {"start_percent": 0.1}):
        with pytest.raises(AssertionError, match="read back"):
            new_state(**settings).begin(timestep)


def test_a_seed_draws_other_tokens_at_each_step_level_and_seed_and_the_same_ones_again():
    x = features()
    drawn = assignment(new_state(seed=1), x, timestep=500)
    assert torch.equal(assignment(new_state(seed=1), x, timestep=torch.tensor([500, 500])), drawn)
    assert not torch.equal(assignment(new_state(seed=2), x, timestep=500), drawn)
    assert not torch.equal(assignment(new_state(seed=1), x, timestep=501), drawn)
    assert not torch.equal(assignment(new_state(seed=1), x, timestep=500, level=2), drawn)
    assert not torch.equal(assignment(new_state(), x, timestep=500), drawn)


@pytest.mark.parametrize("timestep", [-1.25, 0.0, 0.123, 999.0])
@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_any_seed_and_timestep_can_be_drawn_from(seed, timestep):
    x = features()
    assert torch.equal(assignment(new_state(seed=seed), x, timestep), assignment(new_state(seed=seed), x, timestep))


def test_a_call_counts_as_merged_only_if_a_part_ran_on_fewer_tokens():
    state = new_state()
    for grid, entered in (((8, 8), True), ((8, 8), False), ((1, 1), True)):
        state.begin(500)
        state.observe(features())
        plan = state.plan(1, grid)
        if entered:
            state.enter(1, grid, "attention", plan.kept)
        state.end()
    assert (state._report.merged_calls, state._report.untouched_calls) == (1, 2)


def test_a_draw_does_not_depend_on_the_neighbours_of_a_row():
    x, timesteps = features(batch=3), torch.tensor([900, 500, 100])
    together = assignment(new_state(seed=1), x, timesteps)
    other = assignment(new_state(seed=1), torch.cat([x[:1], features(batch=1, seed=9)]), torch.tensor([900, 300]))
    assert torch.equal(together[:1], other[:1])


def test_the_global_random_generator_is_neither_read_nor_moved():
    x = features()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = assignment(new_state(seed=1), x)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(assignment(new_state(seed=1), x), first)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_are_matched_in_float32(dtype):
    x = features().to(dtype)
    assert torch.equal(assignment(new_state(), x), assignment(new_state(), x.float()))


def test_autocast_does_not_change_a_plan():
    x = features(height=16, width=16, channels=64)
    expected = assignment(new_state(), x, grid=(16, 16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(assignment(new_state(), x, grid=(16, 16)), expected)


def test_window_matching_merges_inside_cells_only():
    state = new_state(matching="window", stride=(2, 4))
    slots = assignment(state, features(height=4, width=8), grid=(4, 8))[0].reshape(4, 8)
    cell = torch.arange(2).repeat_interleave(2).unsqueeze(1) * 2 + torch.arange(2).repeat_interleave(4)
    for slot in slots.unique():
        assert len(cell[slots == slot].unique()) == 1


def test_plans_carry_no_gradient():
    state = new_state()
    state.begin(500)
    state.observe(features().requires_grad_())
    assert not state.plan(1, (8, 8)).sizes.requires_grad
