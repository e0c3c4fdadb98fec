"""How progress is shown where nobody watches a terminal."""

import pytest

from tome_core.cli import console


@pytest.fixture(autouse=True)
def every_state(monkeypatch):
    monkeypatch.setattr(console, "_LINE_EVERY", 0.0)


def test_a_captured_bar_is_a_line_for_every_state(capsys):
    with console.progress(3, "drawing") as bar:
        for _ in range(3):
            bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("|")[-1].split()[0] for line in lines] == ["1/3", "2/3", "3/3"]
    assert all(line.startswith("drawing: ") for line in lines)


def test_a_note_between_two_lines_of_a_captured_bar_is_a_line_of_its_own(capsys):
    with console.progress(2, "drawing") as bar:
        bar.update()
        console.note("this model is small")
        bar.update()
    assert "tome: note: this model is small" in capsys.readouterr().err.splitlines()


def test_a_captured_bar_that_did_nothing_is_silent(capsys):
    with console.progress(2, "drawing"):
        pass
    assert capsys.readouterr().err == ""
