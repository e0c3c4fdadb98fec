"""The language of the demo model: how a scene may be described, and which words that takes."""

import re
from typing import Final

COLOUR_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "red": ("red", "crimson"),
    "yellow": ("yellow", "golden"),
    "green": ("green", "emerald"),
    "blue": ("blue", "cobalt"),
    "purple": ("purple", "violet"),
    "black": ("black", "dark"),
}
SHAPE_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle", "pyramid"),
    "cross": ("cross", "plus"),
    "star": ("star", "starfish"),
}
ANY_SHAPE: Final = ("shape", "thing", "object")

FULL: Final = (
    "a {c} {s}",
    "a {c} {s}",
    "a {c} {s}",
    "{c} {s}",
    "one {c} {s}",
    "a {s} in {c}",
    "a {s} that is {c}",
    "the {s} is {c}",
)
COLOUR_ONLY: Final = ("a {c} {any}", "something {c}", "{c}")
SHAPE_ONLY: Final = ("a {s}", "one {s}", "{s}")
JOINS: Final = (" and ", " and ", " and ", " with ", " next to ", " beside ", ", ")
APART: Final = ("{first} and {second} in {c} and {d}", "{first} and {second}, {c} and {d}")
FRAMES: Final = ("{}", "{}", "{}", "{}", "a picture of {}", "a drawing of {}", "{} on a light ground")


def _taught_words() -> frozenset[str]:
    templates = " ".join((*FULL, *COLOUR_ONLY, *SHAPE_ONLY, *JOINS, *FRAMES))
    words = {*re.findall(r"[a-z]+", re.sub(r"{.*?}", " ", templates)), *ANY_SHAPE}
    return frozenset(words.union(*COLOUR_WORDS.values(), *SHAPE_WORDS.values()))


TAUGHT_WORDS: Final = _taught_words()
"""Every word that a caption can hold, in lower case."""


def untaught_words(prompt: str) -> list[str]:
    """List the words of a prompt that no caption holds, in their order and once each, in lower case."""
    words = re.findall(r"[^\W\d_]+|\d+", prompt.lower())
    return [word for word in dict.fromkeys(words) if word not in TAUGHT_WORDS]
