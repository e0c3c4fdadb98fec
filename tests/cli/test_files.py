"""Files of commands: looked at before any work, and written whole."""

import json
import tempfile

import pytest
from PIL import Image

from tome_core.cli.files import check_file, check_folder, write_json, write_png
from tome_core.errors import UserError


def test_a_look_at_a_folder_leaves_nothing(tmp_path):
    check_folder(tmp_path / "a" / "b")
    check_file(tmp_path / "c" / "d.png", ".png")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_permission_is_told(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(UserError, match=r"^cannot write into .*b: Permission denied$"):
        check_folder(tmp_path / "a" / "b")


def test_a_file_comes_with_its_folder_and_nothing_beside_it(tmp_path):
    write_json(tmp_path / "a" / "b.json", {"prompt": "é", "none": None})
    assert json.loads((tmp_path / "a" / "b.json").read_text(encoding="utf-8")) == {"prompt": "é", "none": None}
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b.json"]


def test_figures_that_json_lacks_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", float("nan"))
    assert list(tmp_path.iterdir()) == []


def test_texts_of_a_png_come_back(tmp_path):
    texts = {"prompt": "a red square", "more": "赤い四角"}
    write_png(tmp_path / "a.png", Image.new("RGB", (3, 2)), texts)
    assert Image.open(tmp_path / "a.png").text == texts
    assert b"tEXtprompt\x00a red square" in (tmp_path / "a.png").read_bytes()
