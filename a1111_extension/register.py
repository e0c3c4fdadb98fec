"""What is registered with the host at each load of the script: callbacks, axes, the tab.

"Reload UI" clears all callbacks and loads the script again, but not the modules that it imports.
"""

from modules import script_callbacks

from .script import before_step
from .tab import make_tab
from .xyz import add_axes


def register() -> None:
    """Register everything; after a reload of the page nothing is there twice."""
    script_callbacks.on_cfg_denoiser(before_step)
    script_callbacks.on_ui_tabs(make_tab)
    add_axes()
