"""The rules by which the suites were made. `python -m tome_core.evaluation.suites.make` freezes what they give.

What is held out is decided by hash, as in `demo.scene`, so that it depends on no order and no random generator. Prompts
stand in the order of their hashes, too: the first N of them are a fair sample.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations, permutations, product
from typing import Any, Final, TypeVar

from ...demo.scene import COLOURS, HELD_OUT_PAIRS, SEEN_PAIRS, SHAPES, Kind, held_out
from .suite import SPLITS, Prompt, Split, Suite, path_of

MOST: Final = 300
"""Most prompts of a part, as many as a validation set of T2I-CompBench has."""

PLAIN: Final = "a {attribute} {shape}"
WEARING: Final = "a {shape} wearing a {attribute}"
PATTERNS: Final = ("striped", "dotted", "checked", "plain")
SIZES: Final = ("large", "small")
ACCESSORIES: Final = ("hat", "crown", "scarf", "bow")

Kinds = tuple[Kind, ...]
Parts = dict[Split, Iterable[Kinds]]
T = TypeVar("T")


def make_suites() -> list[Suite]:
    """Return every suite, in the order of `SUITES`."""
    singles: Parts = {"seen": (((c, s),) for c in COLOURS for s in SHAPES), "held-out": ()}
    colours: Parts = {"seen": [*_orders(SEEN_PAIRS)], "held-out": [*_orders(HELD_OUT_PAIRS)]}
    kept = "two objects that differ in {} and shape"
    return [
        _suite("single", "one object", "colour", PLAIN, "", singles),
        _suite("two-colours", kept.format("colour"), "colour", PLAIN, "", colours),
        _suite(
            "two-colours-apart",
            "two objects that differ in colour and shape, their colours said after both",
            "colour",
            PLAIN,
            "",
            colours,
            apart=True,
        ),
        _suite("two-patterns", kept.format("pattern"), "pattern", PLAIN, "patterns", _pairs(PATTERNS)),
        _suite("two-sizes", kept.format("size"), "size", PLAIN, "sizes", _pairs(SIZES)),
        _suite("three-objects", "three objects of three colours", "colour", PLAIN, "three objects", _triples()),
        _suite(
            "object-binding",
            "two objects that differ in shape and in what they wear",
            "accessory",
            WEARING,
            "things that wear something",
            _pairs(ACCESSORIES),
        ),
    ]


def _suite(
    name: str, about: str, attribute: str, phrase: str, untaught: str, parts: Parts, *, apart: bool = False
) -> Suite:
    empty = Suite(name, about, attribute, phrase, apart, untaught, {})
    prompts = {split: _by_hash(Prompt(empty.sentence(kinds), kinds) for kinds in parts[split]) for split in SPLITS}
    return replace(empty, parts={split: tuple(of_part[:MOST]) for split, of_part in prompts.items()})


def _pairs(attributes: Iterable[str]) -> Parts:
    """Return the pairs of objects that differ in attribute and shape, a quarter of them held out, in both orders."""
    kinds = [(attribute, shape) for attribute in attributes for shape in SHAPES]
    pairs = _by_hash((a, b) for a, b in combinations(kinds, 2) if a[0] != b[0] and a[1] != b[1])
    quarter = len(pairs) // 4
    return {"seen": _orders(pairs[quarter:]), "held-out": _orders(pairs[:quarter])}


def _triples() -> Parts:
    """Return triples of objects that differ in colour and shape, each in one order.

    Held out are those with a pair of objects that `demo.scene` holds out: whatever is taught of three objects later,
    a training that keeps to that rule for pairs keeps to this one.
    """
    triples = [
        tuple(zip(colours, shapes, strict=True))
        for colours, shapes in product(combinations(COLOURS, 3), permutations(SHAPES, 3))
    ]
    ordered = [_by_hash(permutations(triple))[0] for triple in triples]
    parts: dict[bool, list[Kinds]] = {True: [], False: []}
    for triple in ordered:
        parts[any(held_out(a, b) for a, b in combinations(triple, 2))].append(triple)
    return {"seen": parts[False], "held-out": parts[True]}


def _orders(pairs: Iterable[tuple[Kind, Kind]]) -> Iterator[Kinds]:
    for first, second in pairs:
        yield (first, second)
        yield (second, first)


def _by_hash(items: Iterable[T]) -> list[T]:
    return sorted(items, key=lambda item: hashlib.sha256(repr(item).encode()).digest())


def frozen(suite: Suite) -> str:
    """Return a suite as the text of its file, one prompt a line."""
    values: dict[str, Any] = suite.as_dict()
    lines = {split: [f"    {json.dumps(prompt)}" for prompt in values.pop(split)] for split in SPLITS}
    head = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in values.items()]
    parts = [
        f'  "{split}": [\n' + ",\n".join(lines[split]) + "\n  ]" if lines[split] else f'  "{split}": []'
        for split in SPLITS
    ]
    return "{\n" + ",\n".join([*head, *parts]) + "\n}\n"


if __name__ == "__main__":
    for made in make_suites():
        path_of(made.name).write_text(frozen(made), encoding="utf-8")
