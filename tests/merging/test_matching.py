"""What all matchings promise, and the two bipartite ones against the algorithm written out in loops."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tome_core.merging import (
    MergePlan,
    bipartite_soft_matching,
    bipartite_soft_matching_2d,
    matching,
    window_matching,
)

HEIGHT, WIDTH = 5, 7
MATCHINGS = {
    "sequence": bipartite_soft_matching,
    "grid": lambda metric, r: bipartite_soft_matching_2d(metric, HEIGHT, WIDTH, r),
    "random": lambda metric, r: bipartite_soft_matching_2d(metric, HEIGHT, WIDTH, r, generator=seeded(5)),
    "window": lambda metric, r: window_matching(metric, HEIGHT, WIDTH, r),
}
MOST = {"sequence": 17, "grid": 29, "random": 29, "window": 18}  # of 35 tokens in 6 whole cells
Matching = Callable[[Tensor, int], MergePlan]
each_matching = pytest.mark.parametrize("matching_of", MATCHINGS.values(), ids=MATCHINGS)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_metric(batch: int, tokens: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return features without equal scores."""
    return torch.randn(batch, tokens, 6, generator=seeded(seed), dtype=torch.float64).to(dtype)


def partition(representatives: list[int]) -> list[int]:
    """Return the slot of each token: kept tokens are numbered in their order."""
    kept = [token for token, representative in enumerate(representatives) if token == representative]
    return [kept.index(representative) for representative in representatives]


def match_slowly(metric: Tensor, src: list[int], dst: list[int], r: int) -> list[int]:
    """Return the slots of one row [N, C] after joining the `r` best src to their best dst."""
    best = []
    for token in src if dst else []:
        scores = [float(torch.cosine_similarity(metric[token], metric[other], dim=0)) for other in dst]
        best.append((max(scores), token, dst[scores.index(max(scores))]))
    best.sort(key=lambda edge: (-edge[0], edge[1]))
    representatives = list(range(len(metric)))
    for _, token, partner in best[:r]:
        representatives[token] = partner
    return partition(representatives)


@each_matching
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_exactly_r_tokens_merge_up_to_the_most_possible(matching_of: Matching, batch: int, request):
    most = MOST[request.node.callspec.id.split("-")[-1]]
    for r in (0, 1, 4, most - 1, most, most + 1, 35, 1000):
        plan = matching_of(random_metric(batch, 35), r)
        assert (plan.batch, plan.tokens, plan.kept) == (batch, 35, 35 - min(r, most))
        assert torch.equal(plan.sizes.sum(dim=1), torch.full((batch,), 35.0))
        assert (plan.sizes >= 1).all()


@each_matching
def test_a_row_is_matched_alike_alone_and_in_any_batch(matching_of: Matching):
    metric = random_metric(3, 35)
    together = matching_of(metric, 9).assignment
    for row in range(3):
        assert torch.equal(matching_of(metric[row : row + 1], 9).assignment[0], together[row])


@each_matching
def test_the_global_random_generator_is_untouched(matching_of: Matching):
    before = torch.get_rng_state()
    matching_of(random_metric(2, 35), 9)
    assert torch.equal(torch.get_rng_state(), before)


@each_matching
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_compared_in_float32(matching_of: Matching, dtype: torch.dtype):
    metric = 1 + 0.05 * random_metric(2, 35).to(dtype)  # all alike: in a half type most scores would be equal
    assert torch.equal(matching_of(metric, 9).assignment, matching_of(metric.float(), 9).assignment)


@each_matching
def test_features_near_the_end_of_a_half_type_do_not_overflow(matching_of: Matching):
    metric = random_metric(2, 35, dtype=torch.float16)
    assert torch.equal(matching_of(metric * 8192, 9).assignment, matching_of(metric, 9).assignment)


@each_matching
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_zero_tokens_give_no_nan(matching_of: Matching, dtype: torch.dtype):
    metric = random_metric(2, 35, dtype=dtype)
    metric[0, ::2] = 0
    metric[1] = 0
    plan = matching_of(metric, 9)
    assert plan.kept == 26
    assert torch.equal(plan.sizes.sum(dim=1), torch.tensor([35.0, 35.0]))
    assert plan.merge(metric).isfinite().all()


@each_matching
def test_a_zero_token_is_similar_to_nothing(matching_of: Matching):
    metric = random_metric(1, 35).abs()  # every other score is above 0
    zeros = [0, 1, 9, 17]
    metric[0, zeros] = 0
    plan = matching_of(metric, 6)
    assert plan.sizes[0, plan.assignment[0, zeros]].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("name", "slots_of_the_first_tokens"),
    [("sequence", [0, 0, 0, 1, 0]), ("grid", [0, 0, 1, 0, 2]), ("window", [0, 0, 1, 2, 3])],
)
def test_equal_scores_are_decided_by_the_order_of_the_tokens(name: str, slots_of_the_first_tokens: list[int]):
    plan = MATCHINGS[name](torch.zeros(1, 35, 4), 3)
    assert plan.assignment[0, :5].tolist() == slots_of_the_first_tokens


@pytest.mark.parametrize("name", ["sequence", "grid", "window"])
def test_the_most_similar_pair_merges_first(name: str):
    metric = random_metric(1, 35)
    metric[0, 1] = metric[0, 0] * 3  # the same direction
    assert MATCHINGS[name](metric, 1).assignment[0, :3].tolist() == [0, 0, 1]


@each_matching
def test_nothing_is_differentiated_through_the_matching(matching_of: Matching):
    plan = matching_of(random_metric(2, 35).requires_grad_(), 9)
    assert not plan.sizes.requires_grad


@pytest.mark.parametrize("name", ["sequence", "grid", "window"])
def test_a_matching_compiles_to_one_graph(name: str):
    metric = random_metric(2, 35, dtype=torch.float32)
    compiled = torch.compile(lambda x: MATCHINGS[name](x, 9).merge(x), fullgraph=True, backend="eager")
    assert torch.equal(compiled(metric), MATCHINGS[name](metric, 9).merge(metric))


@given(st.integers(1, 3), st.integers(0, 20), st.integers(0, 12), st.booleans(), st.booleans())
def test_sequence_matching_is_the_one_of_the_paper(batch: int, tokens: int, r: int, cls: bool, distill: bool):
    metric = random_metric(batch, tokens, seed=tokens)
    plan = bipartite_soft_matching(metric, r, class_token=cls, distill_token=distill)
    src = [token for token in range(0, tokens, 2) if not (cls and token == 0)]
    dst = [token for token in range(1, tokens, 2) if not (distill and token == 1)]
    r = min(r, max(0, tokens - cls - distill) // 2)
    for row in range(batch):
        assert plan.assignment[row].tolist() == match_slowly(metric[row], src, dst, r)


@pytest.mark.parametrize("tokens", [4, 5, 8, 9])
def test_class_and_distillation_tokens_stay_alone_in_front(tokens: int):
    metric = torch.ones(2, tokens, 3)  # everything would like to merge with everything
    plan = bipartite_soft_matching(metric, tokens, class_token=True, distill_token=True)
    assert plan.kept == tokens - (tokens - 2) // 2
    assert plan.assignment[:, :2].tolist() == [[0, 1]] * 2
    assert plan.sizes[:, :2].tolist() == [[1, 1]] * 2


grids = st.tuples(st.integers(1, 9), st.integers(1, 9))
strides = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(grids, strides, st.integers(1, 3), st.floats(0, 1))
def test_grid_matching_is_the_one_of_the_paper(
    grid: tuple[int, int], stride: tuple[int, int], batch: int, ratio: float
):
    (height, width), (sy, sx) = grid, stride
    metric = random_metric(batch, height * width, seed=width)
    r = int(height * width * ratio)
    plan = bipartite_soft_matching_2d(metric, height, width, r, stride=stride)
    dst = [y * sy * width + x * sx for y in range(height // sy) for x in range(width // sx)]
    src = [token for token in range(height * width) if token not in dst]
    for row in range(batch):
        assert plan.assignment[row].tolist() == match_slowly(metric[row], src, dst, r)


def test_a_generator_draws_one_dst_per_cell_for_the_whole_batch():
    metric = random_metric(1, 24).repeat(3, 1, 1)
    plan = bipartite_soft_matching_2d(metric, 4, 6, 18, generator=seeded(1))  # r at its most: the kept are the dst
    again = bipartite_soft_matching_2d(metric, 4, 6, 18, generator=seeded(1))
    other = bipartite_soft_matching_2d(metric, 4, 6, 18, generator=seeded(2))
    assert torch.equal(plan.assignment, again.assignment)
    assert not torch.equal(plan.assignment, other.assignment)
    assert torch.equal(plan.assignment, plan.assignment[:1].expand(3, -1))


def test_scores_in_blocks_give_the_same_plan(monkeypatch: pytest.MonkeyPatch):
    metric = random_metric(2, 35)
    whole = MATCHINGS["grid"](metric, 9)
    monkeypatch.setattr(matching, "_SCORES_AT_ONCE", 7)  # a block per src
    assert torch.equal(MATCHINGS["grid"](metric, 9).assignment, whole.assignment)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: bipartite_soft_matching(x[0], 3), r"metric must be a float tensor \[B, N, C\], got .* \[35, 6\]"),
        (
            lambda x: bipartite_soft_matching(x.long(), 3),
            r"metric must be a float tensor \[B, N, C\], got torch.int64 .*",
        ),
        (lambda x: bipartite_soft_matching(x, -1), "r must be an int >= 0, got -1"),
        (lambda x: bipartite_soft_matching(x, 0.5), "r must be an int >= 0, got 0.5"),
        (lambda x: window_matching(x, 5, 7, True), "r must be an int >= 0, got True"),
        (
            lambda x: bipartite_soft_matching_2d(x, 5, 6, 3),
            r"height \* width must be the metric's 35 tokens, got 5 \* 6",
        ),
        (lambda x: window_matching(x, -5, -7, 3), r"height \* width must be the metric's 35 tokens, got -5 \* -7"),
        (lambda x: window_matching(x, 5, 7, 3, stride=(2, 0)), r"stride must be two ints >= 1, got \(2, 0\)"),
        (lambda x: bipartite_soft_matching_2d(x, 5, 7, 3, stride=(2,)), r"stride must be two ints >= 1, got \(2,\)"),
    ],
)
def test_a_mistake_is_named(call: Callable[[Tensor], object], message: str):
    with pytest.raises(ValueError, match=f"^{message}$"):
        call(random_metric(2, 35))
