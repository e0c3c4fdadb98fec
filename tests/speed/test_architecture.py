"""What docs/architecture.md says of the way of a ratio is true of the files."""

import re
import sys
from pathlib import Path

from tome_core.speed import SpeedConfig, apply_speed

ROOT = Path(__file__).resolve().parents[2]
MOST_FILES = 14


def ways() -> list[list[str]]:
    """Return each numbered list of files on the page."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    found: list[list[str]] = []
    for number, file in re.findall(r"^(\d+)\. `([\w/.]+\.py)`$", page, flags=re.MULTILINE):
        if number == "1":
            found.append([])
        found[-1].append(file)
    return found


def test_a_ratio_passes_few_files_from_either_door_to_the_gather():
    assert [way[0] for way in ways()] == ["nodes/speed.py", "tome_core/speed/doors/diffusers.py"]
    for way in ways():
        assert len(way) <= MOST_FILES and way[-1] == "tome_core/merging/kernels.py"
        assert [file for file in way if not (ROOT / file).exists()] == []


def test_no_file_on_the_way_is_left_out(new_unet, new_inputs):
    # what a call reads or writes beside the way of a ratio
    beside = {"layouts", "report.py", "images.py", "estimate.py", "schedule.py", "schedulers.py"}
    passed: set[str] = set()

    def look(frame, event, arg):
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT / "tome_core"):
            passed.add(path.relative_to(ROOT).as_posix())

    unet, inputs = new_unet(), new_inputs()
    sys.setprofile(look)
    try:
        with apply_speed(unet, SpeedConfig()):
            unet(**inputs)
    finally:
        sys.setprofile(None)
    own = {file for file in passed if not beside & set(file.split("/"))}
    own -= {"tome_core/settings.py", "tome_core/unet_walk.py"}
    assert own == set(ways()[1]), own ^ set(ways()[1])
