"""Say what the host lacks. AUTOMATIC1111 and Forge run this at each launch, ComfyUI-Manager after a clone.

It installs nothing: every host brings what the core needs, and torch is the host's own business.
Silent and exit code 0 when all is there; otherwise one line and exit code 1.
"""

import sys
from importlib import metadata, util

MODULES = {"torch": "torch", "numpy": "numpy", "safetensors": "safetensors", "tqdm": "tqdm", "PIL": "Pillow"}
LEAST_PYTHON = (3, 10)
LEAST_TORCH = (2, 1)


def find_problem() -> str:
    """Return one sentence about what is missing or too old, or an empty string."""
    if sys.version_info < LEAST_PYTHON:
        return f"it needs Python 3.10 or newer, this is {sys.version_info[0]}.{sys.version_info[1]}"
    missing = [name for module, name in MODULES.items() if util.find_spec(module) is None]
    if missing:
        return f"missing from this host's Python: {', '.join(missing)}"
    version = metadata.version("torch")  # read from its metadata: importing torch takes seconds
    if tuple(int(part) for part in version.split(".")[:2]) < LEAST_TORCH:
        return f"it needs torch 2.1 or newer, this host has {version}"
    return ""


if __name__ == "__main__":
    problem = find_problem()
    if problem:
        print(f"tome-suite cannot run: {problem}")
        sys.exit(1)
