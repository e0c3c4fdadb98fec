"""The parts of a transformer block, named for what they really do."""

import pytest
from torch import nn

from tome_core.speed.levels import block_parts


class Block(nn.Module):
    def __init__(self, **flags: bool) -> None:
        super().__init__()
        self.attn1, self.attn2, self.ff = nn.Identity(), nn.Identity(), nn.Identity()
        for name, value in flags.items():
            setattr(self, name, value)


@pytest.mark.parametrize(
    ("flag", "attentions"),
    [
        (None, ["attention", "cross_attention"]),
        ("only_cross_attention", ["cross_attention", "cross_attention"]),
        ("disable_self_attn", ["cross_attention", "cross_attention"]),
        ("double_self_attention", ["attention", "attention"]),
        ("switch_temporal_ca_to_sa", ["attention", "attention"]),
    ],
)
def test_parts_are_named_for_what_they_do(flag: str | None, attentions: list[str]):
    block = Block(**({} if flag is None else {flag: True}))
    assert block_parts(block) == [*zip(attentions, (block.attn1, block.attn2), strict=True), ("mlp", block.ff)]
    assert [part for part, _ in block_parts(Block(**({} if flag is None else {flag: False})))][:2] == [
        "attention",
        "cross_attention",
    ]


def test_a_part_that_a_block_lacks_is_not_named():
    block = Block()
    del block.attn2
    assert [part for part, _ in block_parts(block)] == ["attention", "mlp"]
