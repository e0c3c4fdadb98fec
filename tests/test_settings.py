"""Field kinds: what a user writes comes back as it was, and what breaks a rule is refused in words."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tome_core.binding import BindingConfig
from tome_core.settings import (
    Cell,
    Choice,
    Choices,
    Kind,
    Number,
    Switch,
    Whole,
    Wholes,
    kind_of,
    kinds,
    setting,
    settle,
)
from tome_core.speed import SpeedConfig

CONFIGS = (SpeedConfig, BindingConfig)
FIELDS = [(config, field) for config in CONFIGS for field in fields(config)]
WORDS = ("near", "far", "wide")


@dataclass(frozen=True)
class Example:
    number: float = setting(0.5, Number("A number.", "share", 0.0, 1.0, 0.1))
    maybe: float | None = setting(None, Number("A number or None.", "share", 0.0, 1.0, 0.1, optional=True))
    whole: int = setting(3, Whole("A whole number.", "steps", 1, 9, 1))
    switch: bool = setting(False, Switch("On or off."))
    choice: str = setting("near", Choice("A word.", WORDS))
    choices: tuple[str, ...] = setting(("near",), Choices("Some words.", WORDS))
    wholes: tuple[int, ...] = setting((1,), Wholes("Some numbers.", "level", 1, 8, 1))
    cell: tuple[int, int] = setting((2, 2), Cell("A cell.", "tokens", 1, 8, 1))

    def __post_init__(self) -> None:
        settle(self)


def values(kind: Kind) -> st.SearchStrategy[Any]:
    """Return a strategy for the allowed values of a kind."""
    match kind:
        case Number():
            return st.integers(0, 1_000_000).map(lambda n: n / 1_000_000)
        case Whole():
            return st.integers(kind.least, kind.most)
        case Switch():
            return st.booleans()
        case Choices():
            return st.lists(st.sampled_from(kind.choices), min_size=1, unique=True).map(tuple)
        case Choice():
            return st.sampled_from(kind.choices)
        case Wholes():
            return st.lists(st.integers(kind.least, kind.most), min_size=1, unique=True).map(tuple)
        case Cell():
            side = st.integers(kind.least, kind.most)
            return st.tuples(side, side).filter(lambda cell: cell != (1, 1))
    raise AssertionError(f"no strategy for {kind}")


@given(st.data())
def test_a_value_written_and_read_is_the_value(data: st.DataObject):
    kind = data.draw(st.sampled_from(list(kinds(Example).values())))
    value = data.draw(values(kind))
    assert kind.accepts(value)
    assert kind.parse(kind.format(value)) == value


@pytest.mark.parametrize("text", ["1,2", "1+2", "1, 2", " 1 2 "])
def test_numbers_are_read_however_they_are_set_apart(text: str):
    assert kinds(Example)["wholes"].parse(text) == (1, 2)


def test_words_are_read_with_or_without_spaces():
    assert kinds(Example)["choices"].parse("near + far") == kinds(Example)["choices"].parse("near,far") == WORDS[:2]


@pytest.mark.parametrize(
    ("name", "text"),
    [("number", "half"), ("whole", "1.5"), ("switch", "yes"), ("wholes", "one"), ("wholes", ""), ("cell", "2/2")],
)
def test_text_that_is_no_value_is_refused(name: str, text: str):
    with pytest.raises(ValueError):
        kinds(Example)[name].parse(text)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("number", 1.5, "a number from 0 to 1"),
        ("number", float("nan"), "a number from 0 to 1"),
        ("number", True, "a number from 0 to 1"),
        ("number", None, "a number from 0 to 1"),
        ("maybe", "x", "None or a number from 0 to 1"),
        ("whole", 2.0, "a whole number from 1 to 9"),
        ("whole", False, "a whole number from 1 to 9"),
        ("switch", 1, "True or False"),
        ("choice", "nearer", r"one of \('near', 'far', 'wide'\)"),
        ("choices", (), "one or more of .*, each once"),
        ("choices", ("near", "near"), "one or more of .*, each once"),
        ("wholes", (1, 9), "one or more different whole numbers from 1 to 8"),
        ("cell", (1, 1), "two whole numbers from 1 to 8, one of them above 1"),
        ("cell", (2, 2, 2), "two whole numbers from 1 to 8, one of them above 1"),
    ],
)
def test_a_value_that_breaks_its_rule_is_refused_in_words(name: str, value: Any, rule: str):
    with pytest.raises(ValueError, match=f"^{name} must be {rule}, got "):
        Example(**{name: value})


def test_values_are_stored_in_one_form():
    example = Example(number=1, choices=["far"], wholes=4, cell=[3, 1])  # type: ignore[arg-type]
    assert (type(example.number), example.choices, example.wholes, example.cell) == (float, ("far",), (4,), (3, 1))


def test_numbers_of_other_libraries_are_stored_as_plain_ones():
    example = Example(
        number=numpy.float32(0.25), whole=numpy.int64(3), wholes=numpy.array([2, 1]), cell=torch.tensor([1, 2])
    )  # type: ignore[arg-type]
    assert (example.number, example.whole, example.wholes, example.cell) == (0.25, 3, (2, 1), (1, 2))
    assert {type(x) for x in (example.whole, *example.wholes, *example.cell)} == {int}


@pytest.mark.parametrize(
    "value", [None, 3, "near", 10**400, float("inf"), b"\x01", {1, 2}, {"near": 1}, [], [[1]], object()]
)
@pytest.mark.parametrize("name", [field.name for field in fields(Example)])
def test_whatever_is_given_is_taken_or_refused_in_words(name: str, value: Any):
    try:
        Example(**{name: value})
    except ValueError as refusal:
        assert str(refusal).startswith(f"{name} must be ")
    kinds(Example)[name].accepts(value)


def test_what_has_no_order_is_refused():
    with pytest.raises(ValueError, match="choices must be"):
        Example(choices={"near", "far"})  # type: ignore[arg-type]


@pytest.mark.parametrize(("config", "field"), FIELDS, ids=lambda it: getattr(it, "name", getattr(it, "__name__", "")))
def test_every_field_of_a_config_has_a_kind_that_accepts_its_default_and_explains_it(config: type, field: Any):
    kind = kind_of(field)
    assert kind.accepts(field.default), field.name
    assert kind.help.endswith("."), kind.help
    assert kind.bounds.endswith("."), kind.bounds
    assert kinds(config)[field.name] is kind
