"""A suite of prompts, frozen or of a user's file: what is asked for, and what should come of it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from ...demo.scene import COLOURS, SHAPES, Kind

Split = Literal["seen", "held-out"]
SPLITS: Final[tuple[Split, ...]] = get_args(Split)
SUITES: Final = ("single", "two-colours", "two-colours-apart", "three-objects", "object-binding")
_FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """One picture to make."""

    wanted: tuple[Kind, ...]  # what it should hold, each an (attribute, shape), such as a colour
    prompt: str
    seed: int  # of its noise
    phrases: tuple[str, ...] = ()  # the prompt in parts, one a wanted object and in the same order, or none
    shuffled: str = ""  # the prompt with every attribute at the next object


def singles(count: int) -> list[Case]:
    """Return `count` cases of one object, every colour and shape in turn."""
    kinds = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    chosen = [kinds[i % len(kinds)] for i in range(count)]
    return [Case((kind,), f"a {kind[0]} {kind[1]}", 1000 + i) for i, kind in enumerate(chosen)]


@dataclass(frozen=True)
class Prompt:
    """What to ask for, what should come of it, each object's (attribute, shape), and the attributes shuffled.

    Nothing is wanted of a prompt that is from a file of a user's.
    """

    text: str
    wanted: tuple[Kind, ...]
    shuffled: str


@dataclass(frozen=True)
class Suite:
    """Prompts of one kind. No pair of objects of a held-out prompt comes in a seen one."""

    name: str  # one of `SUITES`, or a file's
    about: str  # what its prompts have in common, in a few words
    attribute: str  # what binds to the objects: colour or accessory
    phrase: str  # what asks for one object alone, with {attribute} and {shape}
    untaught: str  # what of it the weights of the package were never taught, if anything
    parts: Mapping[Split, tuple[Prompt, ...]]

    @property
    def judged(self) -> bool:
        """Whether the judge can read its attribute in a picture."""
        return self.attribute == "colour"

    @property
    def is_file(self) -> bool:
        """Whether its prompts are from a file of a user's."""
        return self.name not in SUITES

    @property
    def binds(self) -> bool:
        """Whether its prompts have several objects, so that an attribute can go to the wrong one."""
        return all(len(prompt.wanted) > 1 for part in self.parts.values() for prompt in part)

    def cases(self, split: Split, prompts: int, seeds: int) -> list[Case]:
        """Return `seeds` cases of each of the first `prompts` prompts of a part, prompt by prompt.

        A seed follows from its prompt and its number alone: every picture has noise of its own, and the first cases
        stay what they are when more are asked for. Raises ValueError where the part has fewer prompts.
        """
        part = self.parts[split]
        if not part:
            raise ValueError(f"split must be another: suite {self.name} has no {split} prompts")
        if not 1 <= prompts <= len(part):
            raise ValueError(f"prompts must be from 1 to {len(part)} in suite {self.name}, {split}, got {prompts}")
        return [self._case(prompt, number) for prompt in part[:prompts] for number in range(seeds)]

    def _case(self, prompt: Prompt, number: int) -> Case:
        seed = int.from_bytes(hashlib.sha256(f"{prompt.text}|{number}".encode()).digest()[:4], "big")
        phrases = tuple(self.phrase.format(attribute=attribute, shape=shape) for attribute, shape in prompt.wanted)
        return Case(prompt.wanted, prompt.text, seed, phrases, prompt.shuffled)


def load_suite(name: str) -> Suite:
    """Return a suite of the package. Raises ValueError for a name that is none of `SUITES`."""
    if name not in SUITES:
        raise ValueError(f"suite must be one of {', '.join(SUITES)}, got {name!r}")
    values = json.loads(path_of(name).read_text("utf-8"))
    parts: dict[Split, tuple[Prompt, ...]] = {
        split: tuple(Prompt(text, tuple(map(tuple, wanted)), other) for text, wanted, other in values.pop(split))
        for split in SPLITS
    }
    return Suite(**values, parts=parts)


def read_prompts(path: Path) -> Suite:
    """Return the different prompts of a text file, one a line, as the held-out part of a suite that nothing judges.

    T2I-CompBench's `color_val.txt` is such a file. It does not say what should come of a prompt, so nothing is wanted
    of a picture. Blank lines are left out.

    Raises OSError for a file that cannot be read, and ValueError for one that is no text in UTF-8 or holds no prompt.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"prompts file must be text in UTF-8, got {path.name}") from error
    texts = dict.fromkeys(line.strip() for line in lines if line.strip())
    if not texts:
        raise ValueError(f"prompts file must hold a prompt a line, got none in {path.name}")
    parts: dict[Split, tuple[Prompt, ...]] = {"seen": (), "held-out": tuple(Prompt(text, (), text) for text in texts)}
    attribute = "attributes of prompts from a file"
    return Suite(path.name, "prompts of a file", attribute, phrase="", untaught="", parts=parts)


def path_of(name: str) -> Path:
    """Return the file in which a suite is frozen."""
    return _FOLDER / f"{name}.json"
