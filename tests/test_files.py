"""Files that are whole or not there."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tome_core.errors import UserError
from tome_core.files import write_whole


def test_a_failed_write_leaves_the_earlier_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.json"
    write_whole(path, b"earlier")

    def fill_the_disk(self, content):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "write_bytes", fill_the_disk)
    with pytest.raises(UserError, match=r"cannot write .*a\.json: No space left on device"):
        write_whole(path, b"later")
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_of_threads_that_write_one_file_at_once_one_wins_and_no_half_is_seen(tmp_path: Path):
    path, contents = tmp_path / "a" / "b.bin", [bytes([number]) * 50000 for number in range(8)]
    threads = [threading.Thread(target=write_whole, args=(path, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents and list(path.parent.iterdir()) == [path]
