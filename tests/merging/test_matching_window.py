"""Window-local matching: every merge stays in its window, and the error is that of the better choice."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tome_core.merging import MergePlan, bipartite_soft_matching_2d, window_matching


def random_metric(batch: int, tokens: int, seed: int) -> Tensor:
    return torch.randn(batch, tokens, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def windows(height: int, width: int, stride: tuple[int, int]) -> list[list[int]]:
    sy, sx = stride
    return [
        [(top + y) * width + left + x for y in range(sy) for x in range(sx)]
        for top in range(0, height - sy + 1, sy)
        for left in range(0, width - sx + 1, sx)
    ]


def match_slowly(metric: Tensor, cut: list[list[int]], r: int) -> list[int]:
    """Return the representative of each token of one row [N, C]."""

    def cosine(a: int, b: int) -> float:
        return float(torch.cosine_similarity(metric[a], metric[b], dim=0))

    edges = []
    for window in cut:
        centre = max(window, key=lambda token, window=window: sum(cosine(token, other) for other in window))
        edges += [(cosine(token, centre), token, centre) for token in window if token != centre]
    edges.sort(key=lambda edge: -edge[0])
    representatives = list(range(len(metric)))
    for _, token, centre in edges[:r]:
        representatives[token] = centre
    return representatives


def unmerge_error(x: Tensor, plan: MergePlan) -> float:
    return float((plan.unmerge(plan.merge(x)) - x).norm() / x.norm())


def collapse_windows(x: Tensor, height: int, width: int, count: int) -> MergePlan:
    """Return the plan that makes one token of each of the `count` most uniform windows."""
    cut = torch.tensor(windows(height, width, (2, 2)))
    direction = torch.nn.functional.normalize(x, dim=-1)
    best = direction[:, cut].sum(dim=2).norm(dim=-1).argsort(dim=1, descending=True)[:, :count]
    representatives = torch.arange(height * width).repeat(len(x), 1)
    members = cut[best]  # [B, count, 4]
    representatives.scatter_(1, members.flatten(1), members[:, :, :1].expand(-1, -1, 4).flatten(1))
    return MergePlan.from_representatives(representatives, height * width - 3 * count)


def smooth_picture(size: int, channels: int, border: bool) -> Tensor:
    """Return [1, N, C]: low waves in random directions, with a disc of another feature inside where `border`."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    wave = 6 * torch.randn(channels, 2, 1, 1, generator=generator)
    picture = torch.sin(wave[:, 0] * x + wave[:, 1] * y + 6 * torch.rand(channels, 1, 1, generator=generator))
    if border:
        picture = 0.3 * picture + torch.randn(channels, 1, 1, generator=generator) * ((x**2 + y**2) < 0.5)
    return picture.flatten(1).T.unsqueeze(0)


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.floats(0, 1))
def test_window_matching_joins_the_best_tokens_to_the_centre_of_their_window(
    height: int, width: int, sy: int, sx: int, batch: int, ratio: float
):
    metric = random_metric(batch, height * width, seed=height)
    cut = windows(height, width, (sy, sx))
    r = int(len(cut) * (sy * sx - 1) * ratio)
    if sy * sx == 2:  # both tokens are equally good centres
        return
    plan = window_matching(metric, height, width, r, stride=(sy, sx))
    for row in range(batch):
        expected = MergePlan.from_representatives(torch.tensor([match_slowly(metric[row], cut, r)]), plan.kept)
        assert torch.equal(plan.assignment[row], expected.assignment[0])


def test_nothing_merges_across_windows_and_the_remainder_stays_single():
    plan = window_matching(random_metric(3, 35, seed=1), 5, 7, 18)
    window_of = torch.full((35,), -1)
    for number, window in enumerate(windows(5, 7, (2, 2))):
        window_of[window] = number
    for row in plan.assignment:
        for slot in range(plan.kept):
            members = window_of[row == slot]
            assert len(members) == 1 or (len(members.unique()) == 1 and members[0] >= 0)


def test_collapsing_whole_windows_loses_more_at_the_same_r():
    for border in (False, True):
        x = smooth_picture(32, 64, border)
        for collapsed in (86, 171, 214):  # r = .25, .5 and .63 of all tokens
            ours = unmerge_error(x, window_matching(x, 32, 32, 3 * collapsed))
            assert ours <= 1.02 * unmerge_error(x, collapse_windows(x, 32, 32, collapsed))


def test_at_a_sharp_border_and_a_high_r_collapsing_loses_much_more():
    x = smooth_picture(32, 64, border=True)
    ours = unmerge_error(x, window_matching(x, 32, 32, 3 * 236))
    assert ours < 0.6 * unmerge_error(x, collapse_windows(x, 32, 32, 236))


def test_on_smooth_features_the_error_is_that_of_the_global_matching_or_less():
    x = smooth_picture(32, 64, border=False)
    for r in (256, 512, 640):
        assert unmerge_error(x, window_matching(x, 32, 32, r)) <= unmerge_error(
            x, bipartite_soft_matching_2d(x, 32, 32, r)
        )
