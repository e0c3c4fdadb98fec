"""Start a real ComfyUI where torchvision has no compiled operators: `python start.py CHECKOUT --cpu --port 8188`.

Not for every torch on a CPU is a torchvision built, and without its operators ComfyUI cannot even be imported. It needs
of torchvision only what is written in Python, so it is enough to declare the two operators mentioned at its import.
Words after the checkout are ComfyUI's own options.
"""

import os
import runpy
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def declare_operators() -> Any:
    """Declare what torchvision registers a Python rule for; return the library, which must stay alive.

    None where torchvision's compiled part loads, which declares them itself.
    """
    folder = Path(str(metadata.distribution("torchvision").locate_file("torchvision")))
    try:
        for path in (*folder.glob("_C*.so"), *folder.glob("_C*.pyd")):
            torch.ops.load_library(path)
            return None
    except OSError:
        pass  # linked against another torch: CUDA's, mostly
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in OPERATORS:
        library.define(schema)
    return library


if __name__ == "__main__":
    checkout = os.path.abspath(sys.argv[1])
    library = declare_operators()
    os.chdir(checkout)
    sys.path[0] = checkout
    sys.argv = [os.path.join(checkout, "main.py"), *sys.argv[2:]]
    runpy.run_path(sys.argv[0], run_name="__main__")
