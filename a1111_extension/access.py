"""Who may change files of the user's from the page."""

from modules import shared


def is_shared() -> bool:
    """Return whether others reach this webui, who must not change files: as the host decides it for extensions."""
    return bool(getattr(shared.cmd_opts, "disable_extension_access", False))
