"""Prompts from a text file of a user's."""

import pytest

from tome_core.evaluation.suites import read_prompts


def test_each_line_is_a_prompt_once_in_the_files_order(tmp_path):
    file = tmp_path / "color_val.txt"
    file.write_bytes(
        "\ufeffa green bench and a blue bowl\r\n\r\n  A bathroom. \na green bench and a blue bowl\n".encode()
    )
    suite = read_prompts(file)
    assert [prompt.text for prompt in suite.parts["held-out"]] == ["a green bench and a blue bowl", "A bathroom."]
    assert (suite.name, suite.judged, suite.binds) == ("color_val.txt", False, False)


def test_cases_have_seeds_of_their_own_and_want_nothing(tmp_path):
    (tmp_path / "a.txt").write_text("a red cat\na blue dog")
    cases = read_prompts(tmp_path / "a.txt").cases("held-out", 2, 2)
    assert [case.prompt for case in cases] == ["a red cat"] * 2 + ["a blue dog"] * 2
    assert len({case.seed for case in cases}) == 4
    assert {(case.wanted, case.phrases, case.shuffled == case.prompt) for case in cases} == {((), (), True)}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\n \n", "prompts file must hold a prompt a line, got none in a.txt"),
        (b"\xff\xfe\x00", "prompts file must be text in UTF-8, got a.txt"),
    ],
)
def test_a_file_without_prompts_is_refused(tmp_path, content, sentence):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError) as told:
        read_prompts(tmp_path / "a.txt")
    assert str(told.value) == sentence
