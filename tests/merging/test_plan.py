"""MergePlan: what merging and unmerging conserve, whatever made the plan."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tome_core.merging import MergePlan, bipartite_soft_matching, bipartite_soft_matching_2d


def random_representatives(batch: int, tokens: int, kept: int, seed: int = 0) -> Tensor:
    """Return [batch, tokens]: every row keeps other tokens, some of them joined by many others and some by none."""
    generator = torch.Generator().manual_seed(seed)
    representatives = torch.empty(batch, tokens, dtype=torch.int64)
    for row in representatives:
        chosen = torch.randperm(tokens, generator=generator)[:kept]
        row.copy_(chosen[torch.randint(kept, (tokens,), generator=generator)])
        row[chosen] = chosen
    return representatives


def random_plan(batch: int, tokens: int, kept: int, seed: int = 0) -> MergePlan:
    return MergePlan.from_representatives(random_representatives(batch, tokens, kept, seed), kept)


def features(batch: int, tokens: int, dtype: torch.dtype = torch.float64, channels: int = 6) -> Tensor:
    return torch.randn(batch, tokens, channels, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(
        dtype
    )


def merge_slowly(plan: MergePlan, x: Tensor, sizes: Tensor) -> Tensor:
    """Return the weighted means, token by token."""
    merged = torch.zeros(plan.batch, plan.kept, x.shape[2], dtype=torch.float64)
    for row in range(plan.batch):
        for slot in range(plan.kept):
            total = 0.0
            for token in range(plan.tokens):
                if plan.assignment[row, token] == slot:
                    merged[row, slot] += sizes[row, token].double() * x[row, token].double()
                    total += float(sizes[row, token])
            merged[row, slot] /= total
    return merged


shapes = st.tuples(st.integers(1, 3), st.integers(1, 40)).flatmap(
    lambda shape: st.tuples(st.just(shape[0]), st.just(shape[1]), st.integers(1, shape[1]))
)


@given(shapes, st.integers(0, 9))
def test_merge_is_the_mean_of_each_slot(shape: tuple[int, int, int], seed: int):
    plan = random_plan(*shape, seed=seed)
    x = features(plan.batch, plan.tokens)
    expected = merge_slowly(plan, x, torch.ones(plan.batch, plan.tokens))
    torch.testing.assert_close(plan.merge(x), expected, rtol=0, atol=1e-12)


@given(shapes, st.integers(0, 9))
def test_merge_with_sizes_is_the_weighted_mean_of_each_slot(shape: tuple[int, int, int], seed: int):
    plan = random_plan(*shape, seed=seed)
    x = features(plan.batch, plan.tokens)
    sizes = torch.randint(1, 9, (plan.batch, plan.tokens), generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(plan.merge(x, sizes=sizes), merge_slowly(plan, x, sizes), rtol=0, atol=1e-12)


@given(shapes, st.integers(0, 9))
def test_sizes_count_the_tokens_of_each_slot_and_sum_to_all(shape: tuple[int, int, int], seed: int):
    plan = random_plan(*shape, seed=seed)
    counted = [[(row == slot).sum() for slot in range(plan.kept)] for row in plan.assignment]
    assert torch.equal(plan.sizes, torch.tensor(counted, dtype=torch.float32))
    assert torch.equal(plan.sizes.sum(dim=1), torch.full((plan.batch,), float(plan.tokens)))


@given(shapes, st.integers(0, 9))
def test_sum_is_mean_times_size(shape: tuple[int, int, int], seed: int):
    plan = random_plan(*shape, seed=seed)
    x = features(plan.batch, plan.tokens)
    torch.testing.assert_close(plan.merge(x, mode="sum"), plan.merge(x) * plan.sizes.unsqueeze(-1))


@given(shapes, st.integers(0, 9))
def test_unmerged_tokens_keep_the_mean_over_all_tokens(shape: tuple[int, int, int], seed: int):
    plan = random_plan(*shape, seed=seed)
    x = features(plan.batch, plan.tokens)
    torch.testing.assert_close(plan.unmerge(plan.merge(x)).mean(dim=1), x.mean(dim=1))


@given(shapes, st.integers(0, 9))
def test_unmerge_copies_each_slot_to_its_tokens(shape: tuple[int, int, int], seed: int):
    plan = random_plan(*shape, seed=seed)
    y = features(plan.batch, plan.kept)
    unmerged = plan.unmerge(y)
    for row in range(plan.batch):
        assert torch.equal(unmerged[row], y[row, plan.assignment[row]])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_merging_equal_tokens_is_exact(dtype: torch.dtype):
    plan = random_plan(2, 35, 9)
    x = plan.unmerge(features(2, 9, dtype))
    merged = plan.merge(x)
    exact = 1e-15 if dtype == torch.float64 else 1e-7 if dtype == torch.float32 else 0.0  # the last bit of a sum of 3
    torch.testing.assert_close(plan.unmerge(merged), x, rtol=2 * exact, atol=0)
    assert merged.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_token_alone_in_its_slot_is_copied_bit_for_bit(dtype: torch.dtype):
    plan = random_plan(3, 35, 24)
    x = features(3, 35, dtype)
    alone = (plan.sizes == 1).gather(1, plan.assignment)
    assert alone.any()
    assert torch.equal(plan.unmerge(plan.merge(x))[alone], x[alone])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("with_sizes", [False, True])
def test_half_types_are_rounded_once(dtype: torch.dtype, with_sizes: bool):
    plan = random_plan(2, 200, 3)
    x = features(2, 200, dtype)
    sizes = torch.arange(1, 401).reshape(2, 200) if with_sizes else None  # sums that a half type cannot count
    merged = plan.merge(x, sizes=sizes)
    wide = plan.merge(x.float(), sizes=sizes)
    assert merged.dtype == dtype
    assert torch.equal(merged, wide.to(dtype))
    assert plan.merge(x, mode="sum").dtype == dtype


def test_a_sum_that_a_half_type_cannot_hold_does_not_spoil_the_mean():
    plan = MergePlan.from_representatives(torch.zeros(1, 4, dtype=torch.int64), 1)
    x = torch.full((1, 4, 2), 60000.0, dtype=torch.float16)
    assert torch.equal(plan.merge(x), x[:, :1])


def test_merging_twice_with_sizes_equals_merging_once():
    first = random_plan(2, 30, 12, seed=1)
    second = random_plan(2, 12, 5, seed=2)
    once = second.assignment.gather(1, first.assignment)  # slot after both
    x = features(2, 30)
    twice = second.merge(first.merge(x), sizes=first.sizes)
    sizes = second.merge(first.sizes.unsqueeze(-1), mode="sum").squeeze(-1)
    for row in range(2):
        for slot in range(5):
            members = once[row] == slot
            assert sizes[row, slot] == members.sum()
            torch.testing.assert_close(twice[row, slot], x[row, members].mean(dim=0))


def test_kept_tokens_stay_in_the_order_of_the_sequence():
    plan = MergePlan.from_representatives(torch.tensor([[0, 4, 2, 2, 4, 5], [1, 1, 1, 3, 4, 5]]), 4)
    assert plan.assignment.tolist() == [[0, 2, 1, 1, 2, 3], [0, 0, 0, 1, 2, 3]]


@given(shapes, st.integers(0, 9))
def test_kept_tokens_are_the_representatives_rising(shape: tuple[int, int, int], seed: int):
    representatives = random_representatives(*shape, seed=seed)
    plan = MergePlan.from_representatives(representatives, shape[2])
    assert plan.kept_tokens.tolist() == [sorted(set(row)) for row in representatives.tolist()]
    slots = plan.assignment.gather(1, plan.kept_tokens)  # each is named after the slot that it is in
    assert torch.equal(slots, torch.arange(plan.kept).expand(plan.batch, -1))


def test_kept_tokens_stay_with_their_rows_in_plans_made_of_others():
    one, other = random_plan(2, 15, 6, seed=1), random_plan(2, 15, 6, seed=2)
    assert torch.equal(one.expand(6).kept_tokens, one.kept_tokens.repeat(3, 1))
    joined = MergePlan.of_rows([(one, 1), (other, 0), (one, 0), (one, 1)])
    expected = [one.kept_tokens[1], other.kept_tokens[0], one.kept_tokens[0], one.kept_tokens[1]]
    assert torch.equal(joined.kept_tokens, torch.stack(expected))
    assert torch.equal(joined.expand(8).kept_tokens, torch.stack(expected * 2))
    assert torch.equal(MergePlan.identity(2, 5).kept_tokens, torch.arange(5).expand(2, -1))


def test_a_plan_of_a_matching_keeps_the_tokens_that_the_matching_kept():
    plan = bipartite_soft_matching_2d(features(2, 12), 3, 4, 5)
    assert plan.kept_tokens.shape == (2, 7)
    assert torch.equal(plan.representatives.gather(1, plan.kept_tokens), plan.kept_tokens)


def test_the_identity_plan_hands_back_the_very_tensor():
    x = features(2, 5)
    for plan in (MergePlan.identity(2, 5), random_plan(2, 5, 5)):
        assert plan.merge(x) is x
        assert plan.merge(x, mode="sum") is x
        assert plan.unmerge(x) is x
        assert torch.equal(plan.sizes, torch.ones(2, 5))


def test_a_plan_of_no_tokens_merges_nothing():
    x = features(2, 0)
    assert MergePlan.identity(2, 0).merge(x) is x


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_an_expanded_plan_treats_each_copy_of_the_batch_alike(copies: int):
    plan = random_plan(2, 15, 6)
    expanded = plan.expand(2 * copies)
    x = features(2, 15)
    assert torch.equal(expanded.merge(torch.cat([x] * copies)), torch.cat([plan.merge(x)] * copies))
    assert torch.equal(expanded.unmerge(torch.cat([x[:, :6]] * copies)), torch.cat([plan.unmerge(x[:, :6])] * copies))
    assert torch.equal(expanded.sizes, plan.sizes.repeat(copies, 1))
    assert (expanded.batch, expanded.tokens, expanded.kept) == (2 * copies, 15, 6)


def test_a_row_is_merged_alike_whatever_its_neighbours():
    x = features(3, 35)
    representatives = random_representatives(3, 35, 9)
    together = MergePlan.from_representatives(representatives, 9).merge(x)
    for row in range(3):
        alone = MergePlan.from_representatives(representatives[row : row + 1], 9).merge(x[row : row + 1])
        assert torch.equal(together[row], alone[0])


@pytest.mark.parametrize("with_sizes", [False, True])
def test_merge_and_unmerge_are_differentiable(with_sizes: bool):
    plan = random_plan(2, 7, 3)
    sizes = torch.arange(1, 15).reshape(2, 7) if with_sizes else None
    x = features(2, 7, channels=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: plan.unmerge(plan.merge(x, sizes=sizes)), x)
    assert torch.autograd.gradcheck(lambda x: plan.merge(x, mode="sum"), x)


def test_a_plan_leaves_its_input_alone_and_takes_strided_input():
    plan = random_plan(2, 7, 3)
    strided = features(2, 6, channels=7).transpose(1, 2)  # [2, 7, 6]
    before = strided.clone()
    assert torch.equal(plan.merge(strided), plan.merge(before))
    assert torch.equal(strided, before)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's own modules
def test_matching_merging_and_unmerging_compile_to_one_graph():
    def run(x: Tensor) -> Tensor:
        plan = bipartite_soft_matching(x, 4)
        return plan.unmerge(plan.merge(x, sizes=torch.ones(x.shape[:2]))) + plan.unmerge(plan.merge(x))

    x = features(2, 15, torch.float32)
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), run(x))


def test_a_plan_enters_a_compiled_call_as_tensors_and_another_one_compiles_nothing_anew():
    graphs = []

    def count(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    def run(plan: MergePlan, x: Tensor) -> Tensor:
        return plan.unmerge(plan.merge(x))

    compiled = torch.compile(run, fullgraph=True, backend=count)
    x = features(2, 15, torch.float32)
    for seed in range(3):
        plan = random_plan(2, 15, 6, seed=seed)
        assert torch.equal(compiled(plan, x), run(plan, x))
    assert len(graphs) == 1


def test_a_plan_shows_its_shape():
    assert repr(random_plan(2, 7, 3)) == "MergePlan(batch=2, tokens=7, kept=3)"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda plan: plan.merge(torch.zeros(2, 6, 4)), r"x must be of shape \[2, 7, C\], got \[2, 6, 4\]"),
        (lambda plan: plan.merge(torch.zeros(7, 4)), r"x must be of shape \[2, 7, C\], got \[7, 4\]"),
        (lambda plan: plan.merge(torch.zeros(4, 7, 4)), r"x must be of shape \[2, 7, C\], got \[4, 7, 4\]"),
        (
            lambda plan: plan.merge(torch.zeros(2, 7, 4, dtype=torch.int64)),
            r"x must be a floating point tensor, got torch.int64",
        ),
        (lambda plan: plan.merge(torch.zeros(2, 7, 4), mode="max"), r"mode must be 'mean' or 'sum', got 'max'"),
        (
            lambda plan: plan.merge(torch.zeros(2, 7, 4), sizes=torch.ones(2, 3)),
            r"sizes must be of shape \[2, 7\], got \[2, 3\]",
        ),
        (
            lambda plan: plan.merge(torch.zeros(2, 7, 4), mode="sum", sizes=torch.ones(2, 7)),
            r"sizes must be None when mode is 'sum', got a tensor",
        ),
        (lambda plan: plan.unmerge(torch.zeros(2, 7, 4)), r"y must be of shape \[2, 3, C\], got \[2, 7, 4\]"),
        (lambda plan: plan.expand(3), r"batch must be a positive multiple of the plan's 2 rows, got 3"),
        (lambda plan: plan.expand(0), r"batch must be a positive multiple of the plan's 2 rows, got 0"),
    ],
)
def test_a_mistake_is_named(call: Callable[[MergePlan], object], message: str):
    with pytest.raises(ValueError, match=f"^{message}$"):
        call(random_plan(2, 7, 3))


@pytest.mark.parametrize("rows", [[0], [2, 1, 0], [1, 1, 2, 1]])
def test_a_plan_of_rows_is_that_of_the_rows_alone(rows):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(3, 12, 4, generator=generator), torch.randn(2, 12, 4, generator=generator)
    plans = bipartite_soft_matching_2d(x, 3, 4, 5), bipartite_soft_matching_2d(y, 3, 4, 5)
    got = MergePlan.of_rows([(plans[0], row) for row in rows] + [(plans[1], 1)])
    z = torch.cat([x[rows], y[1:]])
    expected = bipartite_soft_matching_2d(z, 3, 4, 5)
    for name in ("assignment", "sizes", "order", "starts", "slots", "representatives"):
        assert torch.equal(getattr(got, name), getattr(expected, name)), name
    assert torch.equal(got.merge(z), expected.merge(z))


def test_rows_of_plans_that_differ_in_size_are_an_error():
    identity, other = MergePlan.identity(1, 12), MergePlan.identity(1, 8)
    with pytest.raises(ValueError, match="rows must be one or more of the same tokens"):
        MergePlan.of_rows([(identity, 0), (other, 0)])
    with pytest.raises(ValueError, match="rows must be one or more of the same tokens"):
        MergePlan.of_rows([])
