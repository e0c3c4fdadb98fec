"""diffusers and transformers: an error of one line where they are missing, no chatter where they are installed."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Final

from ..checkpoints.original import quiet_libraries
from ..errors import UserError

_LIBRARIES: Final = ("diffusers", "transformers")


@contextmanager
def quiet_diffusers() -> Iterator[None]:
    """Silence the libraries' warnings and progress bars inside the block, then set them back as they were.

    Raises `UserError` where one is not installed.
    """
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if missing:
        named = " and ".join(missing)
        raise UserError(f"this needs {named}, which is not installed here: pip install 'tome-suite[diffusers]'")
    with quiet_libraries(), ExitStack() as undo:
        for name in _LIBRARIES:
            logging = import_module(f"{name}.utils.logging")
            if logging.is_progress_bar_enabled():
                undo.callback(logging.enable_progress_bar)
                logging.disable_progress_bar()
        yield
