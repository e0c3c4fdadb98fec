"""Files of commands: looked at before any work, and written whole."""

import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..errors import UserError
from ..files import write_whole


def check_folder(folder: Path) -> None:
    """Raise `UserError` unless files can be written into a folder, which need not exist yet. Leaves nothing."""
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise UserError(f"cannot write into {folder}: {there} is not a folder")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror or error}") from error


def check_file(path: Path, suffix: str, name: str = "out") -> None:
    """Raise `UserError` unless a file with that ending can be written at a path. Leaves nothing."""
    if path.suffix.lower() != suffix or path.is_dir():
        raise UserError(f"{name} must be a file name that ends in {suffix}, got {str(path)!r}")
    check_folder(path.parent)


def write_json(path: Path, content: Any) -> None:
    """Write values as JSON; NaN and infinity, which JSON lacks, are a defect and raise."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(path, (text + "\n").encode("utf-8"))


def write_png(path: Path, picture: Image.Image, texts: dict[str, str] | None = None) -> None:
    """Write a picture with texts in it, as tEXt chunks, or iTXt for letters beyond Latin."""
    info = PngInfo()
    for key, text in (texts or {}).items():
        info.add_text(key, text)
    buffer = io.BytesIO()
    picture.save(buffer, format="png", pnginfo=info)
    write_whole(path, buffer.getvalue())
