"""What every opening through diffusers has in common: no chatter, and errors of one line."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..errors import CheckpointError


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """Hold back the libraries' warnings inside the block, and raise what they raise as a `CheckpointError` of one line.

    Progress bars stay. What a user must know of a checkpoint is checked here, before the libraries see it.
    """
    with quiet_libraries():
        try:
            yield
        except CheckpointError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} cannot be opened by diffusers: {' '.join(str(error).split())}") from error


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence the warnings of diffusers and transformers inside the block, then set their levels back.

    Opening a sound checkpoint makes them warn about types to keep (an empty list), image processors that are never
    used, and weights that old releases left in the file.
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    with ExitStack() as undo:
        for library in (diffusers_logging, transformers_logging):
            undo.callback(library.set_verbosity, library.get_verbosity())
            library.set_verbosity_error()
        undo.enter_context(warnings.catch_warnings())
        # Older releases know the argument by no other name.
        warnings.filterwarnings("ignore", message="`torch_dtype` is deprecated", category=FutureWarning)
        yield
