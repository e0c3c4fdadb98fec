"""M and U on what modules are given and give back, also where image tokens are a part of a joint sequence."""

from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from tome_core.merging import MergePlan, bipartite_soft_matching_2d
from tome_core.speed import SpeedConfig, apply_speed_to_module
from tome_core.speed.engine.formula import (
    add_unmerged,
    image_tokens,
    merge_tokens,
    read_output,
    riding_obstacle,
    shape_obstacle,
    unmerge_tokens,
    with_output,
    with_riding,
)
from tome_core.speed.layouts.points import Argument, Block, CallConvention, Layout, Level, Part, Riding, Stack

Place = Literal["all", "front", "back"]
PLACES: list[Place] = ["all", "front", "back"]
TOKENS, ROTARY = Argument("x", 0), Argument("rotary", 1)
TEXT = 3


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def new_plan(batch: int = 2) -> MergePlan:
    return bipartite_soft_matching_2d(noise(batch, 12, 5, seed=1), 3, 4, 5)


def dense(plan: MergePlan, place: Place) -> tuple[Tensor, Tensor]:
    """Return U and M as matrices of a whole sequence: the text is kept as it is."""
    copies = nn.functional.one_hot(plan.assignment).double()
    unmerge = torch.stack([torch.block_diag(*ordered(place, torch.eye(TEXT).double(), row)) for row in copies])
    return unmerge, unmerge.transpose(1, 2) / unmerge.sum(1).unsqueeze(2)


def ordered(place: Place, text: Any, image: Any) -> list[Any]:
    return {"all": [image], "front": [image, text], "back": [text, image]}[place]


def sequence(place: Place, image: int = 12, seed: int = 2) -> Tensor:
    return noise(2, image + (0 if place == "all" else TEXT), 6, seed=seed)


@pytest.mark.parametrize("place", PLACES)
def test_tokens_merge_and_unmerge_where_the_image_is(place):
    plan, call = new_plan(), CallConvention(TOKENS, place)
    unmerge, merge = dense(plan, place)
    x, y = sequence(place), sequence(place, plan.kept, seed=3)
    torch.testing.assert_close(merge_tokens(plan, x, call), merge @ x)
    torch.testing.assert_close(unmerge_tokens(plan, y, call), unmerge @ y)
    assert torch.equal(image_tokens(x, 12, call), {"all": x, "front": x[:, :12], "back": x[:, TEXT:]}[place])


@pytest.mark.parametrize("place", PLACES)
def test_the_image_gets_what_the_module_adds_and_the_text_what_it_returns(place):
    plan, call = new_plan(), CallConvention(TOKENS, place)
    unmerge, merge = dense(plan, place)
    x, y = sequence(place), sequence(place, plan.kept, seed=3)
    # the text is its own merged token, and so x - U M x is 0 on it
    torch.testing.assert_close(
        add_unmerged(plan, x, y, merge_tokens(plan, x, call), call), x + unmerge @ (y - merge @ x)
    )


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("place", PLACES)
def test_what_rides_along_is_that_of_the_kept_tokens(place, dim, rows):
    plan = new_plan()
    rotary = noise(rows, *([4] if dim == 2 else []), *sequence(place).shape[1:2], 8)
    call = CallConvention(TOKENS, place, riding=(Riding(ROTARY, dim),))
    args, kwargs = with_riding(plan, call, (1,), {"rotary": rotary})
    (got,) = kwargs.values()
    for row, kept in enumerate(plan.kept_tokens.tolist()):
        text = list(range(12, 12 + TEXT)) if place == "front" else list(range(TEXT))
        image = [token + (TEXT if place == "back" else 0) for token in kept]
        wanted = [index for part in ordered(place, text, image) for index in part]
        assert torch.equal(got[row], rotary[row % rows].index_select(dim - 1, torch.tensor(wanted)))
    assert args == (1,)
    assert with_riding(plan, call, (1,), {}) == ((1,), {})  # a call without it


@pytest.mark.parametrize(
    ("place", "shape", "fits"),
    [
        ("all", (2, 12, 6), True),
        ("all", (2, 13, 6), False),
        ("front", (2, 15, 6), True),
        ("back", (2, 11, 6), False),
        ("all", (1, 12, 6), False),
        ("all", (2, 12), False),
    ],
)
def test_what_does_not_hold_the_tokens_is_described(place, shape, fits):
    found = shape_obstacle((2, 12), torch.zeros(shape), CallConvention(TOKENS, place))
    because = "another patch merges or tiles, or chunking slices it"
    assert found == (None if fits else f"it got {list(shape)} instead of [2, 12, C]: {because}")


def test_what_is_no_tensor_and_what_is_not_given_are_described():
    assert "it got str instead of" in (shape_obstacle((2, 12), "x", CallConvention(TOKENS)) or "")
    assert "the call has no argument x" in (shape_obstacle((2, 12), None, CallConvention(TOKENS)) or "")


@pytest.mark.parametrize(
    ("shape", "fits"),
    [((1, 15, 8), True), ((2, 12, 8), True), ((2, 11, 8), False), ((3, 15, 8), False), ((15,), False), (None, True)],
)
def test_what_rides_along_and_does_not_fit_is_an_obstacle(shape, fits):
    call = CallConvention(TOKENS, "back", riding=(Riding(ROTARY),))
    given = {} if shape is None else {"rotary": torch.zeros(shape)}
    obstacle = riding_obstacle(new_plan(), call, (1,), given)
    assert (obstacle is None) == fits
    assert fits or (obstacle or "").startswith("rotary is not")


@pytest.mark.parametrize("output", [(1, "rest"), [1, "rest"]])
def test_tokens_are_read_from_and_put_into_a_sequence_of_outputs(output):
    call = CallConvention(TOKENS, output=0)
    x = torch.zeros(1)
    replaced: Any = with_output(output, call, x)
    assert read_output(output, call) == 1
    assert type(replaced) is type(output)
    assert replaced[0] is x and replaced[1] == "rest"
    assert with_output(output, CallConvention(TOKENS), x) is x


class JointAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: Tensor, rotary: Tensor) -> tuple[Tensor, str]:
        weights = ((self.q(x) * rotary) @ (self.k(x) * rotary).transpose(1, 2)).softmax(dim=2)
        return weights @ self.v(x), "attention"


class JointBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = JointAttention()
        self.mlp = nn.Linear(8, 8)

    def forward(self, x: Tensor, rotary: Tensor) -> tuple[str, Tensor]:
        x = x + self.attention(x, rotary=rotary)[0]
        return "block", x + self.mlp(x).tanh()


class JointTransformer(nn.Module):
    """A transformer whose blocks see a text and an image in one sequence, as those of Flux do."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place: Place = place
        self.blocks = nn.ModuleList(JointBlock() for _ in range(2))
        self.embed, self.out = nn.Linear(4, 8), nn.Linear(8, 4)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        grid, image = x.shape[2:], self.embed(x.flatten(2).transpose(1, 2))
        x = torch.cat(ordered(self.place, context, image), dim=1)
        rotary = noise(1, x.shape[1], 8, seed=7)
        before = x
        for block in self.blocks:
            _, x = block(x, rotary=rotary)
        self.seen.append((before, x))
        image = x[:, : grid.numel()] if self.place == "front" else x[:, -grid.numel() :]
        return self.out(image).transpose(1, 2).unflatten(2, grid)

    def layout(self) -> Layout:
        riding = (Riding(ROTARY),)
        attention = CallConvention(TOKENS, self.place, riding=riding, output=0)
        call = CallConvention(TOKENS, self.place, riding=riding, output=1)
        mlp = CallConvention(Argument("input", 0), self.place)

        def block(path: str) -> Block:
            parts = (Part("attention", f"{path}.attention", attention), Part("mlp", f"{path}.mlp", mlp))
            return Block(path, call, parts)

        stack = Stack("blocks", 1, (block("blocks.0"), block("blocks.1")))
        return Layout("JointTransformer", "joint", (Level(1, 1),), (stack,))


@pytest.mark.parametrize("place", ["front", "back"])
@pytest.mark.parametrize("parts", ["stack", "block", ("attention", "mlp"), "mlp"], ids=str)
def test_blocks_of_a_joint_sequence_merge_the_image_and_see_all_of_the_text(place, parts):
    torch.manual_seed(0)
    network = JointTransformer(place).double().requires_grad_(False)
    x, text = noise(2, 4, 3, 4, seed=5), noise(2, TEXT, 8, seed=6)
    config = SpeedConfig(ratio=0.4, parts=parts, metric="latent")
    with apply_speed_to_module(network, config, layout=network.layout()) as handle:
        network(x, torch.tensor(500), text)
        plan = handle.plan(1, (3, 4), "stack")
    assert plan is not None
    assert (plan.tokens, plan.kept) == (12, 8)
    ((before, got),) = network.seen
    torch.testing.assert_close(got, merged_by_hand(network, plan, before, parts))
    assert handle.report.levels[0].kept == {(3, 4): dict.fromkeys([parts] if isinstance(parts, str) else parts, 8)}
    assert handle.report.notes == []


def merged_by_hand(network: JointTransformer, plan: MergePlan, x: Tensor, parts: Any) -> Tensor:
    unmerge, merge = dense(plan, network.place)
    rotary = noise(1, x.shape[1], 8, seed=7).expand(2, -1, -1)
    at_front = network.place == "front"
    text = torch.arange(TEXT).expand(2, -1) + (12 if at_front else 0)
    image = plan.kept_tokens + (0 if at_front else TEXT)
    kept = torch.cat(ordered(network.place, text, image), dim=1)
    few = rotary.gather(1, kept.unsqueeze(2).expand(-1, -1, 8))
    blocks: list[Any] = list(network.blocks)
    if parts == "stack":
        y = merged = merge @ x
        for block in blocks:
            y = block(y, few)[1]
        return x + unmerge @ (y - merged)
    for block in blocks:
        if parts == "block":
            merged = merge @ x
            x = x + unmerge @ (block(merged, few)[1] - merged)
        else:
            if "attention" in parts:
                x = x + unmerge @ block.attention(merge @ x, few)[0]
            else:
                x = x + block.attention(x, rotary)[0]
            x = x + (unmerge @ block.mlp(merge @ x)).tanh()
    return x
