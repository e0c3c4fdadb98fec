"""Notes and errors, each one line on stderr; progress; results go to stdout."""

import argparse
import logging
import re
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final, NoReturn

from tqdm import tqdm

from ..errors import UserError

DONE, MISTAKE, INTERRUPTED = 0, 2, 130  # exit codes
_LINE_EVERY: Final = 10.0  # seconds
_PACKAGE: Final = __name__.split(".")[0]


class Parser(argparse.ArgumentParser):
    """An argparse parser that keeps line breaks in its texts, and raises `UserError` for what it cannot parse."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        message = re.sub(r"^argument (\S+): (?=must )", r"\1 ", message)
        if found := re.fullmatch(r"argument (\S+): invalid choice: (.+?) \(choose from (.+)\)", message):
            name, value, choices = found.groups()
            message = f"{name} must be one of {choices.replace(chr(39), '')}, got {value}"
        raise UserError(f"{message} (see {self.prog} --help)")


def note(sentence: str) -> None:
    """Print something worth knowing, in one line that does not disturb a progress bar."""
    _write_line("note", sentence)


def print_error(sentence: str) -> None:
    """Print why the command failed, in one line."""
    _write_line("error", sentence)


def progress(total: int, what: str) -> "tqdm[NoReturn]":
    """Return a bar over `total` steps: redrawn in a terminal, a line now and then in a file or a pipe."""
    if sys.stderr.isatty():
        return tqdm(total=total, desc=what, delay=1, leave=False, dynamic_ncols=True)
    return _Lines(total=total, desc=what, mininterval=_LINE_EVERY, miniters=1, ncols=80, leave=False)


def waiting(what: str) -> "tqdm[NoReturn]":
    """Return a line to show, with `with`, during work that cannot count its steps."""
    return tqdm(total=1, desc=what, bar_format="{desc} ...", leave=False, disable=None)


class _Lines(tqdm):
    """A bar whose every state is a line of its own."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        is_due = self.n > self.last_print_n and time.time() - self.last_print_t >= self.mininterval
        if msg is None and is_due:
            print(self, file=self.fp, flush=True)

    def clear(self, nolock: bool = False) -> None:
        """Leave what is written, which a note beside it would otherwise wipe."""


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Inside the block, this package's warnings and log records are notes, once each; other warnings are silent."""
    note_once = cache(note)

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            note_once(record.getMessage())

    logger, handler = logging.getLogger(_PACKAGE), Notes(logging.WARNING)
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("always", category=UserWarning, module=rf"{_PACKAGE}(\.|$)")
            warnings.showwarning = lambda message, *_, **__: note_once(str(message))
            yield
    finally:
        logger.removeHandler(handler)


def _write_line(kind: str, sentence: str) -> None:
    tqdm.write(f"tome: {kind}: {' '.join(sentence.split())}", file=sys.stderr)
