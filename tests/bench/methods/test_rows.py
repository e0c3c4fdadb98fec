from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from tome_core.bench.drawing.sampling import encode_prompts
from tome_core.bench.methods.rows import added_row, end_rows, noun_row
from tome_core.bench.suites import Case, singles
from tome_core.checkpoints import clip_tokenizer
from tome_core.demo.scene import COLOURS, SHAPES


@pytest.fixture(scope="module")
def pipeline() -> SimpleNamespace:
    """A text encoder whose rows say which token stands where: row p of token t is (t, p)."""

    def encode(tokens: torch.Tensor) -> tuple[torch.Tensor]:
        places = torch.arange(tokens.shape[1]).expand_as(tokens)
        return (torch.stack([tokens, places], dim=2).double(),)

    return SimpleNamespace(tokenizer=clip_tokenizer(), text_encoder=encode, device="cpu")


RED_SQUARE = Case((("red", "square"),), "a red square", 0)  # rows: start, a, red, square, end, padding
SQUARE, RED = 3, 2


def test_single_cases_ask_for_every_kind_equally_often_with_different_seeds():
    cases = singles(60)
    assert set(Counter(case.wanted for case in cases).values()) == {2}
    assert len(cases[0].wanted) == 1 and len({case.wanted for case in cases}) == len(COLOURS) * len(SHAPES)
    assert len({case.seed for case in cases}) == 60


def test_the_noun_test_shows_the_start_row_and_the_nouns_row(pipeline: SimpleNamespace):
    _, keep = noun_row(pipeline, [RED_SQUARE])
    assert keep[0].nonzero().flatten().tolist() == [0, SQUARE]


def test_the_end_test_shows_the_start_row_and_every_row_from_the_end_token_on(pipeline: SimpleNamespace):
    _, keep = end_rows(pipeline, [RED_SQUARE])
    assert keep[0].nonzero().flatten().tolist() == [0, *range(4, 77)]


def test_the_added_row_is_the_nouns_row_plus_the_attributes_row_in_the_attribute_free_prompt(
    pipeline: SimpleNamespace,
):
    full, _ = encode_prompts(pipeline, ["a red square"])
    plain, _ = encode_prompts(pipeline, ["a square"])
    rows, keep = added_row(pipeline, [RED_SQUARE])
    assert keep.all()
    assert torch.equal(rows[0, 2], full[0, SQUARE] + full[0, RED])
    others = [place for place in range(77) if place != 2]
    assert torch.equal(rows[0, others], plain[0, others])
