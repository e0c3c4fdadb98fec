"""What is drawn, what is not drawn again, and what an interrupt costs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tome_core.evaluation.quality import BASELINE, Easel, Method, Model, Painter, Store
from tome_core.evaluation.quality.painting import BATCH
from tome_core.evaluation.sampling import Settings
from tome_core.evaluation.suites import load_suite


def paint(easel, method, cases) -> list[int]:
    done = []
    with Painter(easel, 1) as painter:
        painter.paint(method, cases, done.append)
    return done


def test_every_case_gets_its_own_picture(easel, studio, new_cases):
    cases = new_cases(BATCH + 3)
    assert paint(easel, studio.method, cases) == [BATCH, 3]
    assert [easel.load(studio.method, case).pictures[0, 0, 0, 0] for case in cases] == list(range(BATCH + 3))


def test_what_is_drawn_is_not_drawn_again(easel, studio, new_cases):
    paint(easel, studio.method, new_cases(BATCH))
    assert easel.missing(studio.method, new_cases(BATCH)) == []
    assert paint(easel, studio.method, new_cases(2 * BATCH)) == [BATCH]
    assert [batch[0] for batch in studio.batches] == [0, BATCH]


def test_after_an_interrupt_the_same_batches_are_drawn_that_were_cut_off(easel, studio, new_cases):
    cases = new_cases(3 * BATCH)
    whole, saved = easel.store.save, []

    def interrupted(key, drawn, index):
        if len(saved) == BATCH + 2:
            raise KeyboardInterrupt
        saved.append(key)
        whole(key, drawn, index)

    broken = replace(easel, store=type("Broken", (Store,), {"save": staticmethod(interrupted)})(easel.store.folder))
    with pytest.raises(KeyboardInterrupt):
        paint(broken, studio.method, cases)
    cut_off = studio.batches[1]
    assert paint(easel, studio.method, cases) == [BATCH, BATCH]
    assert studio.batches[2] == cut_off == [case.seed for case in cases[BATCH : 2 * BATCH]]
    assert easel.missing(studio.method, cases) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda easel, method, case: (replace(easel, settings=Settings(2, 3.0, 64)), method, case),
        lambda easel, method, case: (replace(easel, settings=Settings(1, 3.5, 64)), method, case),
        lambda easel, method, case: (replace(easel, settings=Settings(1, 3.0, 72)), method, case),
        lambda easel, method, case: (replace(easel, model=Model(device="meta")), method, case),
        lambda easel, method, case: (easel, Method("grey", {"draws": "blues"}, method.draw), case),
        lambda easel, method, case: (easel, method, replace(case, seed=1)),
        lambda easel, method, case: (easel, method, replace(case, prompt="another")),
        lambda easel, method, case: (easel, method, replace(case, shuffled="another")),
    ],
    ids=["steps", "guidance", "size", "device", "method", "seed", "prompt", "shuffled prompt"],
)
def test_all_that_a_picture_depends_on_is_in_its_key(easel, studio, new_cases, change):
    case = new_cases(1)[0]
    changed, method, other = change(easel, studio.method, case)
    assert changed.key(method, other) != easel.key(studio.method, case)


def test_other_weights_of_the_same_name_have_another_key(easel, studio, new_cases, tmp_path):
    keys = []
    for folder, content in (("a", b"one"), ("b", b"two")):
        path: Path = tmp_path / folder / "tome-demo.safetensors"
        path.parent.mkdir()
        path.write_bytes(content)
        keys.append(replace(easel, model=Model(path)).key(studio.method, new_cases(1)[0]))
    assert keys[0] != keys[1]


def test_a_methods_name_is_not_in_the_key(easel, studio, new_cases):
    case = new_cases(1)[0]
    renamed = replace(studio.method, name="another name of the same")
    assert easel.key(renamed, case) == easel.key(studio.method, case)


def test_another_process_draws_what_this_one_draws(tmp_path):
    cases = load_suite("single").cases("seen", 2, 1)
    easels = [Easel(Model(), Settings(1, 3.0, 64), Store(tmp_path / name)) for name in ("one", "two")]
    for processes, easel in enumerate(easels, 1):
        with Painter(easel, processes) as painter:
            painter.paint(BASELINE, cases, lambda count: None)
    for case in cases:
        first, second = (easel.load(BASELINE, case).pictures.astype(int) for easel in easels)
        assert np.abs(first - second).max() <= 1
