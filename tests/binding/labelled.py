"""The labelled prompts, how far the parser agrees with them, and where it does not.

python -m tests.binding.labelled [dev|test]      prints the scores and every prompt on which the two differ
"""

import re
import sys
from pathlib import Path
from typing import NamedTuple

from tome_core.binding import Parse, phrases

FOLDER = Path(__file__).parent / "prompts"
KINDS = ("sentences", "tags")
HALVES = ("dev", "test")
UNSCORED = frozenset(
    "a an the his her its their my your our and or of in on with by from at is are was were that who which whose has "
    "have one two three four five six seven eight nine ten out".split()
)
Pair = tuple[tuple[str, int], tuple[str, int]]  # (subject, where), (its modifier, where)


class Prompt(NamedTuple):
    """A prompt and the pairs that it was labelled with."""

    text: str
    pairs: frozenset[Pair]


class Score(NamedTuple):
    """Counts of pairs: found and labelled, found alone, labelled alone."""

    right: int
    surplus: int
    missing: int

    @property
    def precision(self) -> float:
        return self.right / (self.right + self.surplus)

    @property
    def recall(self) -> float:
        return self.right / (self.right + self.missing)

    @property
    def f1(self) -> float:
        return 2 * self.right / (2 * self.right + self.surplus + self.missing)


def load(kind: str, half: str) -> list[Prompt]:
    lines = (FOLDER / f"{kind}-{half}.txt").read_text("utf-8").splitlines()
    return [read_label(line) for line in lines]


def read_label(line: str) -> Prompt:
    """Return the prompt of a line such as `a {red cat*}`, or `a {1:cat*} and a {2:dog*} in {1:red} and {2:blue}`."""
    text, pairs = _bared(line), set[Pair]()
    groups: dict[str, list[tuple[str, int]]] = {}
    subjects: dict[str, int] = {}  # the place behind each
    for found in re.finditer(r"{(?:(\d):)?([^{}]*)}", line):
        start, name = len(_bared(line[: found.start()])), found[1] or f"at {found.start()}"
        inside = _words(found[2].replace("*", ""))
        groups.setdefault(name, []).extend((word[0].lower(), start + word.start()) for word in inside)
        if "*" in found[2]:
            subjects[name] = start + found[2].index("*")
    for name, words in groups.items():
        subject = next(word for word in words if word[1] + len(word[0]) == subjects[name])
        pairs.update((subject, word) for word in words if word != subject and word[0] not in UNSCORED)
    return Prompt(text, frozenset(pairs))


def found(parse: Parse) -> frozenset[Pair]:
    """Return the pairs of a parse; the last word of a subject is its noun, and the others are its modifiers."""
    pairs: set[Pair] = set()
    for group in parse.groups:
        words = [(w[0].lower(), s.start + w.start()) for s in group.spans for w in _words(parse.words(s))]
        subject = next(word for word in words if word[1] + len(word[0]) == group.subject.end)
        pairs.update((subject, word) for word in words if word != subject and word[0] not in UNSCORED)
    return frozenset(pairs)


def score(prompts: list[Prompt]) -> Score:
    parses = [found(phrases(prompt.text)) for prompt in prompts]
    both = list(zip(parses, prompts, strict=True))
    return Score(
        sum(len(got & prompt.pairs) for got, prompt in both),
        sum(len(got - prompt.pairs) for got, prompt in both),
        sum(len(prompt.pairs - got) for got, prompt in both),
    )


def wrong(prompts: list[Prompt]) -> list[str]:
    """Return a line for each prompt on which parser and label differ: what is surplus (+) and what is missing (-)."""
    lines = []
    for prompt in prompts:
        got = found(phrases(prompt.text))
        different = [
            f"{sign}{s[0]}<-{w[0]}"
            for sign, pairs in (("+", got - prompt.pairs), ("-", prompt.pairs - got))
            for s, w in sorted(pairs)
        ]
        if different:
            lines.append(f"{prompt.text}\n    {' '.join(different)}")
    return lines


def _bared(line: str) -> str:
    return re.sub(r"{\d:|[{}*]", "", line)


def _words(text: str) -> list[re.Match[str]]:
    return list(re.finditer(r"[^\W_]+(?:['’-][^\W_]+)*", text))


def main() -> None:
    for half in sys.argv[1:] or HALVES:
        for kind in KINDS:
            prompts = load(kind, half)
            result, lines = score(prompts), wrong(prompts)
            print(
                f"{half} {kind}: F1 {result.f1:.3f}, precision {result.precision:.3f}, recall {result.recall:.3f};",
                end=" ",
            )
            print(f"{len(lines)} of {len(prompts)} prompts differ")
            print("\n".join(lines))


if __name__ == "__main__":
    main()
