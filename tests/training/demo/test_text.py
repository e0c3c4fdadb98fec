import numpy as np

from training.demo.scene import Scene, held_out
from training.demo.text import scenes_with_twins


def kinds(scene: Scene) -> list[tuple[str, str]]:
    return [(thing.colour, thing.shape) for thing in scene.things]


def test_twins_differ_in_nothing_but_their_swapped_colours_and_no_pair_is_held_out():
    scenes = scenes_with_twins(np.random.default_rng(0), 64)
    assert len(scenes) == 64
    for first, twin in zip(scenes[:32:2], scenes[1:32:2], strict=True):
        (c1, s1), (c2, s2) = kinds(first)
        assert kinds(twin) == [(c2, s1), (c1, s2)]
        assert [(t.x, t.y, t.radius, t.angle) for t in first.things] == [
            (t.x, t.y, t.radius, t.angle) for t in twin.things
        ]
    assert not any(held_out(*kinds(scene)) for scene in scenes if len(scene.things) == 2)
