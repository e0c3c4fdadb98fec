"""Loads the suite the way ComfyUI loads a folder of custom_nodes, with a small stand-in for the host."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.nodes import fake_host

ROOT = Path(__file__).resolve().parents[2]
PACK = str(ROOT).replace(".", "_x_")  # ComfyUI names a pack by its path


class OneCore(MetaPathFinder, Loader):
    """Gives the pack's tome_core the modules that the tests import, so that there is one copy of each class."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Answer for the pack's own core alone."""
        inside = fullname.removeprefix(f"{PACK}.")
        is_core = inside != fullname and inside.split(".")[0] == "tome_core"
        return ModuleSpec(fullname, self, is_package=True) if is_core else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module under its plain name."""
        found = importlib.import_module(spec.name.removeprefix(f"{PACK}."))
        written = ("__spec__", "__name__", "__loader__", "__package__", "__path__", "__file__", "__cached__")
        spec.loader_state = {name: vars(found)[name] for name in written if name in vars(found)}
        return found

    def exec_module(self, module: ModuleType) -> None:
        """Take back what the import system wrote on a module that has been run already."""
        spec = module.__spec__
        if spec is not None and spec.loader_state is not None:
            vars(module).update(spec.loader_state)


@contextmanager
def loaded_pack() -> Iterator[Any]:
    """Give the loaded pack; its modules and the host's are gone afterwards."""
    before, core, host = set(sys.modules), OneCore(), fake_host.modules()
    real = {name: sys.modules[name] for name in host if name in sys.modules}
    sys.modules.update(host)
    sys.meta_path.insert(0, core)
    try:
        spec = importlib.util.spec_from_file_location(
            PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[PACK] = module
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.meta_path.remove(core)
        for name in set(sys.modules) - before:
            if name.startswith(PACK) or name in host:
                del sys.modules[name]
        sys.modules.update(real)
