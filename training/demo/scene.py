"""Scenes of flat coloured shapes on a light ground: how they are drawn at random and rendered, and which never come."""

import hashlib
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tome_core.demo.scene import COLOURS, SHAPES, Floats, Kind

Pair = tuple[Kind, Kind]

COLOUR_JITTER: Final = 0.04  # largest change of a channel, so that a colour is a small region and not a point
GROUND_RANGE: Final = (0.86, 1.0)  # brightness of the ground
TINT_RANGE: Final = 0.03  # largest change of the ground's channels from grey
RADIUS_RANGE: Final = {1: (0.17, 0.34), 2: (0.17, 0.25)}  # by the number of things
TURN_RANGE: Final = 0.2  # largest turn to either side, radians
GAP: Final = 0.03  # least free space between two objects and to the border, as a fraction of the side


@dataclass(frozen=True)
class Thing:
    """One shape of one colour.

    `x`, `y` is its centre and `radius` that of its circumscribed circle, as fractions of the picture's side, from the
    top left; `angle` turns it clockwise, in radians; `rgb` is the colour really drawn, close to `COLOURS[colour]`.
    """

    shape: str
    colour: str
    x: float
    y: float
    radius: float
    angle: float
    rgb: tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """Things that do not touch each other, on a ground of one light colour (sRGB in [0, 1])."""

    things: tuple[Thing, ...]
    ground: tuple[float, float, float]


def render(scene: Scene, size: int) -> NDArray[np.uint8]:
    """Draw a scene with anti-aliased edges: [size, size, 3] sRGB."""
    picture = np.broadcast_to(np.array(scene.ground, np.float32), (size, size, 3)).copy()
    for thing in scene.things:
        picture += coverage(thing, size)[..., None] * (np.array(thing.rgb, np.float32) - picture)
    return np.round(picture * 255).astype(np.uint8)


def coverage(thing: Thing, size: int) -> Floats:
    """Return the share of each pixel that a thing covers in a picture of `size` pixels a side, [size, size]."""
    centres = ((np.arange(size) + 0.5) / size).astype(np.float32)
    dx, dy = centres[None, :] - np.float32(thing.x), centres[:, None] - np.float32(thing.y)
    cos, sin = np.float32(np.cos(thing.angle)), np.float32(np.sin(thing.angle))
    scale = np.float32(1 / thing.radius)
    distance = SHAPES[thing.shape]((cos * dx + sin * dy) * scale, (cos * dy - sin * dx) * scale)
    return np.clip(np.float32(0.5) - distance * np.float32(thing.radius * size), 0, 1)


def _split_pairs() -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """Share out the unordered pairs of kinds that differ in both colour and shape: (seen, held out) as 3 to 1."""
    kinds = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    pairs = [(a, b) for a, b in combinations(kinds, 2) if a[0] != b[0] and a[1] != b[1]]
    pairs.sort(key=lambda pair: hashlib.sha256(repr(pair).encode()).digest())
    quarter = len(pairs) // 4
    return tuple(pairs[quarter:]), tuple(pairs[:quarter])


SEEN_PAIRS, HELD_OUT_PAIRS = _split_pairs()
"""Unordered pairs of (colour, shape): 225 that come in training, and 75 that never do."""


def held_out(first: Kind, second: Kind) -> bool:
    """Tell whether a pair of kinds is kept from training, in either order."""
    return (first, second) in HELD_OUT_PAIRS or (second, first) in HELD_OUT_PAIRS


def random_scene(rng: np.random.Generator, *, pair_share: float = 0.55) -> Scene:
    """Draw a scene of one thing, or with probability `pair_share` of two that differ in colour and shape.

    Pairs that `held_out` names never come.
    """
    grey = rng.uniform(*GROUND_RANGE)
    tint = rng.uniform(-TINT_RANGE, TINT_RANGE, size=3)
    red, green, blue = np.clip(grey + tint, 0, 1)
    kinds = _random_kinds(rng, 2 if rng.random() < pair_share else 1)
    return Scene(_place(rng, kinds), (float(red), float(green), float(blue)))


def _random_kinds(rng: np.random.Generator, count: int) -> list[Kind]:
    while True:
        colours = rng.choice(list(COLOURS), size=count, replace=False)
        shapes = rng.choice(list(SHAPES), size=count, replace=False)
        kinds = [(str(colour), str(shape)) for colour, shape in zip(colours, shapes, strict=True)]
        if count == 1 or not held_out(*kinds):
            return kinds


def _place(rng: np.random.Generator, kinds: list[Kind]) -> tuple[Thing, ...]:
    """Give each kind a place and a size; start again where two would touch."""
    radii = RADIUS_RANGE[len(kinds)]
    while True:
        things = tuple(_random_thing(rng, kind, rng.uniform(*radii)) for kind in kinds)
        if all(np.hypot(a.x - b.x, a.y - b.y) > a.radius + b.radius + GAP for a, b in combinations(things, 2)):
            return things


def _random_thing(rng: np.random.Generator, kind: Kind, radius: float) -> Thing:
    colour, shape = kind
    x, y = rng.uniform(radius + GAP, 1 - radius - GAP, size=2)
    red, green, blue = np.clip(np.array(COLOURS[colour]) + rng.uniform(-COLOUR_JITTER, COLOUR_JITTER, size=3), 0, 1)
    angle = float(rng.uniform(-TURN_RANGE, TURN_RANGE))
    return Thing(shape, colour, float(x), float(y), float(radius), angle, (float(red), float(green), float(blue)))
