"""Who merges with whom: bipartite soft matching on a sequence (ToMe), on a grid (ToMe-SD), and inside windows.

Tokens are compared by cosine, in float32 or better: in a half type most scores of a smooth picture are equal.
A zero vector is similar to nothing (0, no NaN), and equal scores are decided by the order of the tokens.
No matching has shapes that depend on data, and a row's plan depends on no other row of the batch.
"""

import torch
from torch import Tensor

from .kernels import widen
from .plan import MergePlan

_EPSILON = 1e-12  # least norm that a token is divided by
_SCORES_AT_ONCE = 2**22  # per row of the batch: bounds memory, and a block that stays in the cache is no slower


@torch.no_grad()
def bipartite_soft_matching(
    metric: Tensor, r: int, *, class_token: bool = False, distill_token: bool = False
) -> MergePlan:
    """Return the plan that merges the `r` even tokens (src) most similar to an odd token (dst).

    Bolya et al. 2023, "Token Merging: Your ViT But Faster", section 3. Give the sizes of earlier merges to
    `MergePlan.merge`. Departure: kept tokens stay in the order of the sequence, dst do not move behind src.

    Args:
        metric: [B, N, C], any float dtype; the paper takes the mean of the attention keys over the heads.
        r: tokens to merge, >= 0; capped at half of the tokens that are not protected.
        class_token: token 0 never merges and nothing merges into it.
        distill_token: the same for token 1.

    Raises:
        ValueError: an argument breaks its rule above.
    """
    _check(metric, r)
    tokens = metric.shape[1]
    index = torch.arange(tokens, device=metric.device)
    src = index[2::2] if class_token else index[::2]
    dst = index[3::2] if distill_token else index[1::2]
    mergeable = (tokens - int(class_token) - int(distill_token)) // 2
    return _match_bipartite(metric, src, dst, min(r, mergeable))


@torch.no_grad()
def bipartite_soft_matching_2d(
    metric: Tensor,
    height: int,
    width: int,
    r: int,
    *,
    stride: tuple[int, int] = (2, 2),
    generator: torch.Generator | None = None,
) -> MergePlan:
    """Return the plan that merges the `r` src most similar to a dst, where each cell of the grid has one dst.

    Bolya & Hoffman 2023, "Token Merging for Fast Stable Diffusion", section 4. Any src may join any dst, and
    several the same one. With the same dst the source-to-destination map is that of the authors' tomesd 0.1.3.
    Departure: kept tokens stay in the order of the grid.

    Args:
        metric: [B, N, C], N = height * width in row-major order, any float dtype.
        height, width: size of the grid in tokens. Rows and columns that do not fill a cell are all src.
        r: tokens to merge, >= 0; capped at the number of src: N * (1 - 1 / (sy * sx)) where the stride divides
            the grid, 0 where the grid is smaller than a cell and so has no dst.
        stride: (sy, sx), height and width of a cell in tokens.
        generator: draws the dst of each cell, once for all rows of the batch. None: the top left token.
            The global generator is never used.

    Raises:
        ValueError: an argument breaks its rule above.
    """
    _check(metric, r)
    _check_grid(metric, height, width, stride)
    cells = _cells(height, width, stride, metric.device)
    dst = cells[:, 0]
    if generator is not None:
        sy, sx = stride
        drawn = torch.randint(sy * sx, (len(cells), 1), generator=generator, device=generator.device)
        dst = cells.gather(1, drawn.to(cells.device)).squeeze(1)
    is_dst = torch.zeros(height * width, dtype=torch.int8, device=metric.device).index_fill_(0, dst, 1)
    src = is_dst.argsort(stable=True)[: height * width - len(dst)]
    return _match_bipartite(metric, src, dst, r)


@torch.no_grad()
def window_matching(metric: Tensor, height: int, width: int, r: int, *, stride: tuple[int, int] = (2, 2)) -> MergePlan:
    """Return the plan that merges the `r` tokens most similar to the centre of their own window.

    Ours. The grid is cut into windows of `stride`; a window's centre is its token of highest summed similarity to
    the others, and the others may join it and nothing else. So a merge never reaches further than a window, and
    the work is O(N * C * sy * sx) with N * sy * sx scores, where `bipartite_soft_matching_2d` needs O(N * N * C).
    Chosen over collapsing whole windows: at equal `r` the unmerge error on smooth features is lower or within 2 %,
    about half where sharp borders meet a high `r`, and `r` is exact. The price against the bipartite
    matching: nothing merges across windows, so where features vary within a window the error is up to 1.4 times it.

    Args:
        metric: [B, N, C], N = height * width in row-major order, any float dtype.
        height, width: size of the grid in tokens. Rows and columns that do not fill a window are all kept.
        r: tokens to merge, >= 0; capped at sy * sx - 1 per window.
        stride: (sy, sx), height and width of a window in tokens.

    Raises:
        ValueError: an argument breaks its rule above.
    """
    _check(metric, r)
    _check_grid(metric, height, width, stride)
    cells = _cells(height, width, stride, metric.device)
    batch, windows, members = metric.shape[0], *cells.shape
    r = min(r, windows * (members - 1))
    if r == 0:
        return MergePlan.identity(batch, metric.shape[1], metric.device)
    similarity = _similarity_in_cells(metric, cells)
    centre = similarity.sum(dim=3).argmax(dim=2, keepdim=True)  # [B, windows, 1]
    score = similarity.gather(2, centre.unsqueeze(3).expand(-1, -1, 1, members)).squeeze(2)
    score = score.scatter(2, centre, -torch.inf)  # the centre itself stays
    merged = score.flatten(1).argsort(dim=1, descending=True, stable=True)[:, :r]
    centre_token = cells.expand(batch, -1, -1).gather(2, centre).squeeze(2)
    return _join(metric, cells.flatten()[merged], centre_token.gather(1, merged // members))


def _cells(height: int, width: int, stride: tuple[int, int], device: torch.device) -> Tensor:
    """Return [cells, sy * sx] int64: the tokens of each whole cell, both in row-major order."""
    sy, sx = stride
    rows, columns = height // sy, width // sx
    index = torch.arange(height * width, device=device).reshape(height, width)[: rows * sy, : columns * sx]
    return index.reshape(rows, sy, columns, sx).transpose(1, 2).reshape(rows * columns, sy * sx)


def _match_bipartite(metric: Tensor, src: Tensor, dst: Tensor, r: int) -> MergePlan:
    """Return the plan that joins the `r` tokens of `src` that have the best partner in `dst` to that partner."""
    r = min(r, len(src)) if len(dst) else 0
    if r <= 0:
        return MergePlan.identity(metric.shape[0], metric.shape[1], metric.device)
    wide = widen(metric)
    direction = wide / wide.norm(dim=2, keepdim=True).clamp_min(_EPSILON)
    best, partner = _best_partner(direction.index_select(1, src), direction.index_select(1, dst))
    merged = best.argsort(dim=1, descending=True, stable=True)[:, :r]
    return _join(metric, src[merged], dst[partner.gather(1, merged)])


def _best_partner(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the highest score and its index in `b` [B, dst, C] for each token of `a` [B, src, C]: two [B, src]."""
    columns = b.transpose(1, 2)
    blocks = a.split(max(1, _SCORES_AT_ONCE // b.shape[1]), dim=1)
    best, partner = zip(*((block @ columns).max(dim=2) for block in blocks), strict=True)
    return torch.cat(best, dim=1), torch.cat(partner, dim=1)


def _similarity_in_cells(metric: Tensor, cells: Tensor) -> Tensor:
    """Return [B, cells, members, members]: the cosine of each two tokens of a cell."""
    tokens = widen(metric.index_select(1, cells.flatten())).reshape(-1, cells.shape[1], metric.shape[2])
    product = tokens @ tokens.transpose(1, 2)  # norms come for free on its diagonal
    norm = product.diagonal(dim1=1, dim2=2).sqrt().clamp_min(_EPSILON)
    return (product / (norm.unsqueeze(1) * norm.unsqueeze(2))).reshape(-1, *cells.shape, cells.shape[1])


def _join(metric: Tensor, src: Tensor, dst: Tensor) -> MergePlan:
    """Return the plan in which the tokens `src` [B, r] become part of the tokens `dst` [B, r]."""
    batch, tokens, _ = metric.shape
    representatives = torch.arange(tokens, device=metric.device).repeat(batch, 1)
    representatives.scatter_(1, src, dst)
    return MergePlan.from_representatives(representatives, tokens - src.shape[1])


def _check(metric: Tensor, r: int) -> None:
    if metric.dim() != 3 or not metric.is_floating_point():
        raise ValueError(f"metric must be a float tensor [B, N, C], got {metric.dtype} {list(metric.shape)}")
    if isinstance(r, bool) or not isinstance(r, int) or r < 0:
        raise ValueError(f"r must be an int >= 0, got {r!r}")


def _check_grid(metric: Tensor, height: int, width: int, stride: tuple[int, int]) -> None:
    if height < 1 or width < 1 or height * width != metric.shape[1]:
        raise ValueError(f"height * width must be the metric's {metric.shape[1]} tokens, got {height} * {width}")
    if len(stride) != 2 or min(stride) < 1:
        raise ValueError(f"stride must be two ints >= 1, got {stride}")
