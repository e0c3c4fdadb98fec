"""The rules by which the suites were made. `python -m tests.bench.suites.rules` freezes what they give.

What is held out is decided by hash, as in `demo.scene`, so that it depends on no order and no random generator. Prompts
stand in the order of their hashes, too: the first N of them are a fair sample.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import combinations, permutations, product
from typing import Any, Final, TypeVar

from tome_core.bench.suites.suite import SPLITS, Prompt, Split, Suite, path_of
from tome_core.demo.scene import COLOURS, SHAPES, Kind
from training.demo.scene import HELD_OUT_PAIRS, SEEN_PAIRS, held_out

MOST: Final = 300
"""Most prompts of a part, as many as a validation set of T2I-CompBench has."""

PLAIN: Final = "a {attribute} {shape}"
WEARING: Final = "a {shape} wearing a {attribute}"
ACCESSORIES: Final = ("hat", "crown", "scarf", "bow")

Kinds = tuple[Kind, ...]
Parts = dict[Split, Iterable[Kinds]]
T = TypeVar("T")


def make_suites() -> list[Suite]:
    """Return every suite, in the order of `SUITES`."""
    singles: Parts = {"seen": (((c, s),) for c in COLOURS for s in SHAPES), "held-out": ()}
    colours: Parts = {"seen": [*_orders(SEEN_PAIRS)], "held-out": [*_orders(HELD_OUT_PAIRS)]}
    differing = "two objects that differ in colour and shape"
    return [
        _suite("single", "one object", singles),
        _suite("two-colours", differing, colours),
        _suite("two-colours-apart", f"{differing}, their colours said after both", colours, apart=True),
        _suite("three-objects", "three objects of three colours", _triples(), untaught="three objects"),
        _suite(
            "object-binding",
            "two objects that differ in shape and in what they wear",
            _pairs(ACCESSORIES),
            attribute="accessory",
            phrase=WEARING,
            untaught="things that wear something",
        ),
    ]


def _suite(
    name: str,
    about: str,
    parts: Parts,
    *,
    attribute: str = "colour",
    phrase: str = PLAIN,
    apart: bool = False,
    untaught: str = "",
) -> Suite:
    def prompt(kinds: Kinds) -> Prompt:
        attributes, shapes = zip(*kinds, strict=True)
        shuffled = zip(attributes[1:] + attributes[:1], shapes, strict=True)
        return Prompt(say(kinds), kinds, say(tuple(shuffled)))

    def say(kinds: Kinds) -> str:
        if apart:
            return f"{join(f'a {shape}' for _, shape in kinds)} in {join(attribute for attribute, _ in kinds)}"
        return join(phrase.format(attribute=attribute, shape=shape) for attribute, shape in kinds)

    prompts = {split: _by_hash(map(prompt, parts[split])) for split in SPLITS}
    frozen_parts = {split: tuple(of_part[:MOST]) for split, of_part in prompts.items()}
    return Suite(name, about, attribute, phrase, untaught, frozen_parts)


def join(phrases: Iterable[str]) -> str:
    """Return phrases as one prompt: a, b and c."""
    *before, last = phrases
    return " and ".join(filter(None, [", ".join(before), last]))


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
    return sorted(items, key=lambda item: hashlib.sha256(_in_words(item).encode()).digest())


def _in_words(item: object) -> str:
    """Return what is hashed; of prompts without the shuffled one, which came later."""
    return f"Prompt(text={item.text!r}, wanted={item.wanted!r})" if isinstance(item, Prompt) else repr(item)


def frozen(suite: Suite) -> str:
    """Return a suite as the text of its file, one prompt a line."""
    names = ("name", "about", "attribute", "phrase", "untaught")
    values: dict[str, Any] = {name: getattr(suite, name) for name in names}
    values |= {
        split: [[prompt.text, prompt.wanted, prompt.shuffled] for prompt in suite.parts[split]] for split in SPLITS
    }
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
