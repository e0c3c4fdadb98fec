"""The errors that tome-suite raises of its own.

ValueError                    a user's mistake: "<name> must be <rule>, got <value>", before any work is done
├── UserError                 the same where a terminal prints it as one line
├── UnsupportedModelError     a model that cannot be patched: names what was found and what is supported
└── CheckpointError           a file or folder that cannot be opened as a Stable Diffusion checkpoint
"""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """A mistake that the user can correct; the message is one sentence, and a terminal prints nothing else."""


class UnsupportedModelError(ValueError):
    """A model cannot be patched; the message names what was found and what is supported."""


class CheckpointError(ValueError):
    """A checkpoint cannot be opened; the message names the path, what is wrong with it and what is expected."""


@contextmanager
def as_user_error(prefix: str = "") -> Iterator[None]:
    """Inside the block, a ValueError becomes a `UserError` in the same words after a prefix."""
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{prefix}{error}") from error
