"""Points at which tokens merge: how a call is read and changed, and what parts are named for."""

import pytest
import torch
from torch import nn

from tome_core.speed.layouts.points import Argument, Layout, Level, differs_by_query, kinds_of_attention


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
def test_attentions_are_named_for_what_they_do(flag: str | None, attentions: list[str]):
    block = Block(**({} if flag is None else {flag: True}))
    assert kinds_of_attention(block) == dict(zip(("attn1", "attn2"), attentions, strict=True))
    if flag is not None:
        assert kinds_of_attention(Block(**{flag: False})) == kinds_of_attention(Block())


def test_an_attention_that_a_block_lacks_is_not_named():
    block = Block()
    del block.attn2
    assert kinds_of_attention(block) == {"attn1": "attention"}


CALLS = {
    "by place": ((1, 2), {"c": 3}),
    "by name": ((1,), {"b": 2, "c": 3}),
}


@pytest.mark.parametrize(("args", "kwargs"), CALLS.values(), ids=CALLS)
def test_an_argument_is_read_and_written_however_it_is_given(args, kwargs):
    def forward(a, b=None, c=None):
        return a, b, c

    argument = Argument("b", 1)
    assert argument.read(args, kwargs) == 2
    new_args, new_kwargs = argument.write(args, kwargs, 9)
    assert forward(*new_args, **new_kwargs) == (1, 9, 3)
    assert forward(*args, **kwargs) == (1, 2, 3)  # what was given is as it was


def test_an_argument_that_is_not_given_reads_as_none_and_is_written_by_its_name():
    assert Argument("b", 1).read((1,), {}) is None
    assert Argument("b", 1).write((1,), {}, 9) == ((1,), {"b": 9})
    assert Argument("b").read((1, 2), {}) is None  # one that is always given by its name


@pytest.mark.parametrize(("shape", "differs"), [((2, 7), False), ((2, 1, 7), False), ((2, 5, 7), True)])
def test_a_mask_with_a_row_for_each_query_differs_by_query(shape, differs):
    assert differs_by_query(torch.zeros(shape)) == differs


def test_a_level_that_the_network_lacks_is_refused():
    layout = Layout("UNet", "sdxl", (Level(1, 2), Level(2, 4)), ())
    layout.check_levels((1, 2))
    with pytest.raises(ValueError, match=r"levels must be among \(1, 2\) on this UNet, got \(1, 3\)"):
        layout.check_levels((1, 3))
