"""What is drawn, what is not drawn again, and what an interrupt costs."""

from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest

from tome_core.bench.drawing.method import BASELINE, Method, sources
from tome_core.bench.drawing.models import PictureModel
from tome_core.bench.drawing.runner import BATCH, Runner, key_of
from tome_core.bench.drawing.sampling import Settings
from tome_core.bench.suites import load_suite
from tome_core.errors import UserError


def draw(runner, method, cases) -> list[int]:
    done = []
    runner.draw(method, cases, done.append)
    return done


def test_every_case_gets_its_own_picture(runner, greys, new_cases):
    cases = new_cases(BATCH + 3)
    assert draw(runner, greys, cases) == [BATCH, 3]
    drawn = list(runner.load(greys, cases))
    assert [picture.pictures[0, 0, 0, 0] for picture in drawn] == list(range(BATCH + 3))
    assert [picture.latents[0, 0, 0, 0] for picture in drawn] == list(range(BATCH + 3))


def test_pictures_come_back_to_the_last_bit(runner, pipeline):
    cases = load_suite("single").cases("seen", 2, 1)
    own = replace(runner, model=PictureModel())
    own.draw(BASELINE, cases)
    drawn = BASELINE.draw(pipeline, cases, own.settings)
    for index, kept in enumerate(own.load(BASELINE, cases)):
        assert np.array_equal(kept.pictures, drawn.pictures[index : index + 1])
        assert np.array_equal(kept.latents, drawn.latents[index : index + 1])
        assert kept.latents.dtype == np.float32


def test_what_is_drawn_is_not_drawn_again(runner, greys, new_cases):
    draw(runner, greys, new_cases(BATCH))
    assert runner.missing(greys, new_cases(BATCH)) == []
    again = Runner(runner.model, runner.settings, runner.folder)
    assert draw(again, greys, new_cases(2 * BATCH)) == [BATCH]
    list(again.load(greys, new_cases(2 * BATCH)))
    assert [batch[0] for batch in greys.batches] == [0, BATCH]


def test_after_an_interrupt_the_same_batches_are_drawn_that_were_cut_off(runner, greys, new_cases):
    cases = new_cases(3 * BATCH)

    def interrupt(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.draw(greys, cases, interrupt)
    assert draw(runner, greys, cases) == [BATCH, BATCH]
    seeds = [case.seed for case in cases]
    assert greys.batches == [seeds[start : start + BATCH] for start in range(0, 3 * BATCH, BATCH)]
    assert runner.missing(greys, cases) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda runner, method, case: (replace(runner, settings=Settings(2, 3.0, 64)), method, [case]),
        lambda runner, method, case: (replace(runner, settings=Settings(1, 3.5, 64)), method, [case]),
        lambda runner, method, case: (replace(runner, settings=Settings(1, 3.0, 72)), method, [case]),
        lambda runner, method, case: (replace(runner, model=PictureModel(device="meta")), method, [case]),
        lambda runner, method, case: (runner, Method("grey"), [case]),
        lambda runner, method, case: (runner, method, [replace(case, seed=1)]),
        lambda runner, method, case: (runner, method, [replace(case, prompt="another")]),
        lambda runner, method, case: (runner, method, [replace(case, shuffled="another")]),
        lambda runner, method, case: (runner, method, [case, replace(case, seed=1)]),
    ],
    ids=["steps", "guidance", "size", "device", "method", "seed", "prompt", "shuffled prompt", "neighbour"],
)
def test_all_that_a_picture_depends_on_is_in_its_key(runner, greys, new_cases, change):
    case = new_cases(1)[0]
    changed, method, others = change(runner, greys, case)
    assert changed.key(method, others) != runner.key(greys, [case])


def test_other_weights_of_the_same_name_have_another_key(runner, greys, new_cases, tmp_path):
    keys = []
    for folder, content in (("a", b"one"), ("b", b"two")):
        path: Path = tmp_path / folder / "tome-demo.safetensors"
        path.parent.mkdir()
        path.write_bytes(content)
        keys.append(replace(runner, model=PictureModel(path)).key(greys, new_cases(1)))
    assert keys[0] != keys[1]


def test_a_methods_name_is_not_in_the_key(runner, greys, new_cases):
    renamed = replace(greys, name="another name of the same")
    assert runner.key(renamed, new_cases(1)) == runner.key(greys, new_cases(1))


def test_other_code_has_another_digest(tmp_path):
    (tmp_path / "a.py").write_text("x = 1")
    before = sources(tmp_path)
    (tmp_path / "notes.md").write_text("no code")
    assert sources(tmp_path) == before
    (tmp_path / "a.py").write_text("x = 2")
    other = sources(tmp_path)
    (tmp_path / "words.json").write_text("[]")
    assert len({before, other, sources(tmp_path)}) == 3


def test_a_key_follows_from_the_values_and_not_from_their_order():
    assert key_of({"a": 1, "b": [1, 2]}) == key_of({"b": [1, 2], "a": 1})
    assert len({key_of({"a": 1}), key_of({"a": 2}), key_of({"b": 1}), key_of({"a": "1"})}) == 4


def test_what_was_measured_once_is_remembered_under_its_key(runner):
    measured = []
    for key in ("a", "b", "a"):
        found = runner.remember(key, lambda key=key: measured.append(key) or key * 2)
        assert found == key * 2
    assert measured == ["a", "b"]


def test_a_picture_that_cannot_be_kept_ends_the_drawing(runner, greys, new_cases, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(joblib.numpy_pickle, "dump", fail)
    with pytest.raises(UserError, match=r"cannot write into .*cache: .*No space left on device"):
        draw(runner, greys, new_cases(2))


def test_another_process_draws_what_this_one_draws(runner):
    cases = load_suite("single").cases("seen", 2, 1)
    runners = [replace(runner, model=PictureModel(), folder=runner.folder / str(n), processes=n) for n in (1, 2)]
    for each in runners:
        assert draw(each, BASELINE, cases) == [2]
    for first, second in zip(*(each.load(BASELINE, cases) for each in runners), strict=True):
        assert np.abs(first.pictures.astype(int) - second.pictures.astype(int)).max() <= 1
