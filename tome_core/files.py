"""Files that are whole or not there: written beside their place, then moved into it."""

import contextlib
import os
import threading
from pathlib import Path

from .errors import UserError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, and its folder if need be, so that nobody ever sees half of it.

    Raises `UserError` where the disk is full or the folder has gone.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
