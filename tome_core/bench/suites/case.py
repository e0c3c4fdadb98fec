"""One picture to make."""

from dataclasses import dataclass

from ...demo.scene import COLOURS, SHAPES, Kind


@dataclass(frozen=True)
class Case:
    """One picture to make.

    Attributes:
        wanted: what it should hold, each an (attribute, shape), of which the attribute is a colour unless a suite says
            otherwise.
        prompt: what the model is asked for.
        seed: of its noise.
        phrases: the prompt in parts, one a wanted object and in the same order; empty where nobody asks for them.
        shuffled: the prompt with every attribute at the next object; the same prompt where there is only one.
    """

    wanted: tuple[Kind, ...]
    prompt: str
    seed: int
    phrases: tuple[str, ...] = ()
    shuffled: str = ""


def singles(count: int) -> list[Case]:
    """Return `count` cases of one object, every colour and shape in turn."""
    kinds = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    chosen = [kinds[i % len(kinds)] for i in range(count)]
    return [Case((kind,), f"a {kind[0]} {kind[1]}", 1000 + i) for i, kind in enumerate(chosen)]
