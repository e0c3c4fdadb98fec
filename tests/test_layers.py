"""The architecture as a table, and a check of every import against it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# room of tome_core: the rooms it may import, beside itself. A new room needs a row here.
EVERY_ROOM = "every room"
ARROWS = {
    "errors": "",
    "lazy": "",
    "settings": "",
    "files": "errors",
    "clip_bytes": "",
    "unet_walk": "",
    "merging": "",
    "speed": "merging errors lazy settings unet_walk",
    "presets": "speed binding errors files settings",
    "attention_maps": "merging errors unet_walk",
    "binding": "attention_maps clip_bytes lazy merging errors settings",
    "checkpoints": "clip_bytes errors",
    "demo": "checkpoints errors",
    "metrics": "",
    "bench": "binding checkpoints clip_bytes demo errors merging metrics presets settings speed unet_walk",
    "cli": EVERY_ROOM,
}
# the same inside the rooms that have rooms of their own, by the name of the folder or file
INSIDE = {
    "speed": {
        "config": "",
        "layouts": "config",
        "report": "config layouts",
        "plans": "config report",
        "engine": "config layouts plans",
        "doors": "config report layouts plans engine",
        "__init__": "config report plans doors",
    },
    "binding": {
        "config": "",
        "parsing": "",
        "rows": "config parsing",
        "encoding": "config parsing rows",
        "doors": "config parsing rows encoding",
        "__init__": "config parsing rows encoding doors",
    },
    "attention_maps": {
        "maps": "",
        "sums": "maps",
        "run": "maps sums",
        "patcher": "run sums",
        "recorder": "maps",
        "network": "maps sums run recorder",
        "pictures": "maps sums",
        "__init__": "maps sums run patcher recorder network pictures",
    },
}
# The core knows no host, and nothing that knows the core.
FOREIGN = {"comfy", "comfy_api", "comfy_extras", "folder_paths", "modules", "backend", "gradio"}
FOREIGN |= {"nodes", "a1111_extension", "tests", "training"}
# ComfyUI loads the suite under a name of its own, so an absolute tome_core would be another one, or none.
NOT_FOR_NODES = {"tome_core", "a1111_extension", "tests", "training", "modules", "backend", "gradio", "diffusers"}


def violations(root: Path) -> list[str]:
    """Return one sentence for each import below `root`/tome_core that breaks the rules."""
    core = root / "tome_core"
    found = []
    for path in sorted(core.rglob("*.py")):
        inside = path.relative_to(core).with_suffix("").parts  # ("merging", "plan"), ("errors",), ("__init__",)
        for line, problem in _problems(inside, ast.parse(path.read_text(encoding="utf-8"))):
            found.append(f"{path.relative_to(root).as_posix()}:{line} {problem}")
    return found


def _problems(inside: tuple[str, ...], tree: ast.Module) -> Iterator[tuple[int, str]]:
    room = inside[0]
    if room != "__init__" and room not in ARROWS:
        yield 1, f"is in room {room}, which has no row in ARROWS"
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            targets = [(node.module or "").split(".")]
        elif isinstance(node, ast.ImportFrom):
            yield from _relative_problems(inside, node)
            continue
        else:
            continue
        for top, *_ in targets:
            if top == "tome_core":
                yield node.lineno, "imports tome_core by its absolute name"
            elif top in FOREIGN:
                yield node.lineno, f"imports {top}"


def _relative_problems(inside: tuple[str, ...], node: ast.ImportFrom) -> Iterator[tuple[int, str]]:
    """`inside` minus one part is the file's package, which a single dot names; every further dot goes one up."""
    if node.level > len(inside):
        yield node.lineno, "imports from above tome_core"
        return
    base = inside[: len(inside) - node.level] + tuple((node.module or "").split(".") if node.module else ())
    targets = {base[0]} if base else {alias.name for alias in node.names if alias.name in ARROWS}
    room = inside[0]
    allowed = set(ARROWS) if ARROWS.get(room) == EVERY_ROOM else {room, *ARROWS.get(room, "").split()}
    for target in sorted(targets - allowed):
        yield node.lineno, f"imports {target}, which {room} may not"


def inner_violations(root: Path) -> list[str]:
    """Return one sentence for each import within a room of `root`/tome_core that breaks the rules of that room."""
    found = []
    for room, arrows in INSIDE.items():
        for file, targets in _imports_within(root / "tome_core" / room).items():
            source = file.split("/")[0].removesuffix(".py")
            for line, target in targets:
                inner = target.split("/")[0].removesuffix(".py")
                if inner != source and inner not in arrows.get(source, "").split():
                    found.append(f"{room}/{file}:{line} imports {inner}, which {source} may not")
    return list(dict.fromkeys(found))


def _imports_within(folder: Path) -> dict[str, list[tuple[int, str]]]:
    """Return for each file below a folder the lines of its imports from there, and the files that they name."""
    found: dict[str, list[tuple[int, str]]] = {}
    for path in sorted(folder.rglob("*.py")):
        imports = found.setdefault(path.relative_to(folder).as_posix(), [])
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or node.level == 0:
                continue
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            named = [base] if node.module else [base / alias.name for alias in node.names]
            named += [base / alias.name for alias in node.names if (base / f"{alias.name}.py").exists()]
            for target in named:
                file = target.with_suffix(".py") if target.with_suffix(".py").exists() else target / "__init__.py"
                if file.is_relative_to(folder) and file.exists():
                    imports.append((node.lineno, file.relative_to(folder).as_posix()))
    return found


def circles(folder: Path) -> list[str]:
    """Return the files below a folder that import themselves by way of others."""
    arrows = {file: {target for _, target in imports} for file, imports in _imports_within(folder).items()}
    reached = {file: set(targets) for file, targets in arrows.items()}
    for _ in arrows:
        for file in reached:
            reached[file] |= {further for target in reached[file] for further in arrows[target]}
    return [file for file, targets in reached.items() if file in targets and not file.endswith("__init__.py")]


def node_violations(root: Path) -> list[str]:
    """Return one sentence for each import below `root`/nodes that breaks the rules of ComfyUI's door."""
    found = []
    for path in sorted((root / "nodes").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found += [f"{path.relative_to(root).as_posix()}:{problem}" for problem in _node_problems(node)]
    return found


def _node_problems(node: ast.AST) -> Iterator[str]:
    """Two dots name the root, where the core alone is a node's business, and of the core not the terminal."""
    if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and node.level == 0):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for top in {name.split(".")[0] for name in names} & NOT_FOR_NODES:
            yield f"{node.lineno} imports {top}"
    elif isinstance(node, ast.ImportFrom) and node.level > 1:
        place = (node.module or "").split(".")
        if node.level > 2 or place[0] != "tome_core" or place[1:2] == ["cli"]:
            yield f"{node.lineno} imports {'.' * node.level}{node.module or ''}"


def reached(starts: list[Path]) -> tuple[set[Path], set[str]]:
    """Return the files that some files import, by way of others too, themselves among them, and what else they import.

    A package that is named, or that a file lies in, runs its `__init__`.
    """
    files, foreign, todo = set(), set(), [path.resolve() for path in starts]
    while todo:
        path = todo.pop()
        if path in files:
            continue
        files.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                foreign |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                foreign.add((node.module or "").split(".")[0])
            elif isinstance(node, ast.ImportFrom):
                base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
                named = [base, *(base / alias.name for alias in node.names)]
                inits = [folder / "__init__.py" for target in named for folder in (target, *target.parents)]
                todo += [file for file in [*inits, *(target.with_suffix(".py") for target in named)] if _is_ours(file)]
    return files, foreign


def _is_ours(file: Path) -> bool:
    return file.is_file() and bool({"tome_core", "nodes"}.intersection(file.parts))


def test_every_import_follows_an_arrow():
    assert (ROOT / "tome_core" / "merging" / "plan.py").exists()
    assert violations(ROOT) == []


@pytest.mark.parametrize("room", INSIDE)
def test_every_import_inside_a_room_follows_an_arrow(room: str):
    assert (ROOT / "tome_core" / room / "__init__.py").exists()
    assert inner_violations(ROOT) == []
    assert circles(ROOT / "tome_core" / room) == []


@pytest.mark.parametrize("room", INSIDE)
def test_a_room_with_rooms_of_its_own_stays_small(room: str):
    files = sorted((ROOT / "tome_core" / room).rglob("*.py"))
    folders = [path.parent for path in files]
    assert max(folders.count(folder) for folder in folders) <= 8
    assert [path.name for path in files if len(path.read_text(encoding="utf-8").splitlines()) > 400] == []
    hosts = ("diffusers_", "patcher_", "comfy", "forge_", "webui_", "a1111_")
    assert [path.name for path in files if path.name.startswith(hosts)] == []


def test_the_nodes_import_their_host_and_the_core():
    assert (ROOT / "nodes" / "speed.py").exists()
    assert node_violations(ROOT) == []


NODES = sorted((ROOT / "nodes").glob("*.py"))
DRAWING = [ROOT / "tome_core" / "cli" / f"{name}.py" for name in ("demo", "generate", "bind")]


def test_no_node_reaches_what_measures_or_trains():
    files, foreign = reached(NODES)
    rooms = {path.relative_to(ROOT).parts[:2] for path in files}
    assert {("tome_core", "speed"), ("tome_core", "binding"), ("tome_core", "metrics.py")} <= rooms
    assert not {room for room in rooms if "bench" in room or "train" in room[-1]}
    assert not foreign & {"training", "scipy", "joblib"}


def test_no_command_that_draws_a_picture_needs_the_libraries_of_measuring():
    files, foreign = reached(DRAWING)
    assert ROOT / "tome_core" / "bench" / "sheet.py" in files
    assert "torch" in foreign and not foreign & {"training", "scipy", "joblib"}


def test_what_a_file_reaches_is_found_through_others(tmp_path: Path):
    _plant(tmp_path, "speed/config.py", "def f():\n    from ..bench import clock")
    _plant(tmp_path, "bench/__init__.py", "from .judge import shapes")
    _plant(tmp_path, "bench/clock.py", "import time")
    _plant(tmp_path, "bench/judge/shapes.py", "from scipy import ndimage")
    files, foreign = reached([tmp_path / "tome_core" / "speed" / "config.py"])
    assert {path.name for path in files} == {"config.py", "__init__.py", "clock.py", "shapes.py"}
    assert foreign == {"time", "scipy"}


@pytest.mark.parametrize(
    ("source", "problems"),
    [
        ("from ..tome_core.speed import SpeedConfig\nfrom .schema import schema\nimport comfy.sd, torch", []),
        ("from tome_core.speed import SpeedConfig", ["1 imports tome_core"]),
        ("def f():\n    import diffusers", ["2 imports diffusers"]),
        ("from modules import shared", ["1 imports modules"]),
        ("from ..a1111_extension import ui", ["1 imports ..a1111_extension"]),
        ("from ..tome_core.cli import run", ["1 imports ..tome_core.cli"]),
        ("from ..training.demo import recipe", ["1 imports ..training.demo"]),
        ("from training.demo.recipe import CPU", ["1 imports training"]),
        ("from ... import nodes", ["1 imports ..."]),
    ],
)
def test_a_planted_violation_among_the_nodes_is_found(tmp_path: Path, source: str, problems: list[str]):
    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes" / "x.py").write_text(source, encoding="utf-8")
    assert node_violations(tmp_path) == [f"nodes/x.py:{problem}" for problem in problems]


@pytest.mark.parametrize(
    ("file", "source", "problem"),
    [
        ("merging/plan.py", "from ..speed.config import SpeedConfig", "1 imports speed, which merging may not"),
        ("merging/plan.py", "from .. import errors", "1 imports errors, which merging may not"),
        ("merging/plan.py", "def f():\n    from ..cli import run", "2 imports cli, which merging may not"),
        ("speed/patcher.py", "from ..presets import speed_preset", "1 imports presets, which speed may not"),
        ("presets/loader.py", "from ..merging import MergePlan", "1 imports merging, which presets may not"),
        ("speed/__init__.py", "from ..demo import load_demo", "1 imports demo, which speed may not"),
        ("speed/deep/er.py", "from ...bench.judge import judge", "1 imports bench, which speed may not"),
        ("bench/speed/results.py", "from ...cli.console import note", "1 imports cli, which bench may not"),
        ("errors.py", "from .merging import MergePlan", "1 imports merging, which errors may not"),
        ("__init__.py", "from .merging import MergePlan", "1 imports merging, which __init__ may not"),
        ("attention_maps/run.py", "from ..binding import Parse", "1 imports binding, which attention_maps may not"),
        ("speed/config.py", "from tome_core.merging import MergePlan", "1 imports tome_core by its absolute name"),
        ("cli/demo.py", "import tome_core", "1 imports tome_core by its absolute name"),
        ("cli/demo.py", "from ... import install", "1 imports from above tome_core"),
        ("speed/patcher.py", "import comfy.model_patcher", "1 imports comfy"),
        ("demo/loader.py", "def f():\n    from training.demo.captions import caption", "2 imports training"),
        ("demo/loader.py", "from ...training.demo import recipe", "1 imports from above tome_core"),
        ("speed/patcher.py", "if True:\n    from modules import shared", "2 imports modules"),
        ("drawer/plan.py", "", "1 is in room drawer, which has no row in ARROWS"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, file: str, source: str, problem: str):
    _plant(tmp_path, file, source)
    assert violations(tmp_path) == [f"tome_core/{file}:{problem}"]


@pytest.mark.parametrize(
    ("file", "source", "problem"),
    [
        ("speed/plans/run.py", "from ..engine.hooks import install_stack", "1 imports engine, which plans may not"),
        ("speed/engine/hooks.py", "\nfrom ..doors import patcher", "2 imports doors, which engine may not"),
        ("speed/engine/hooks.py", "def f():\n    from .. import report", "2 imports report, which engine may not"),
        ("speed/layouts/points.py", "from ..plans.run import SamplingRun", "1 imports plans, which layouts may not"),
        ("speed/config.py", "from .report import SpeedReport", "1 imports report, which config may not"),
        ("binding/rows/table.py", "from ..encoding import read_prompt", "1 imports encoding, which rows may not"),
    ],
)
def test_a_planted_violation_inside_a_room_is_found(tmp_path: Path, file: str, source: str, problem: str):
    for name in ("config", "report", "plans/run", "engine/hooks", "layouts/points", "doors/patcher", "doors/__init__"):
        _plant(tmp_path, f"speed/{name}.py", "")
    _plant(tmp_path, "binding/encoding.py", "")
    _plant(tmp_path, file, source)
    assert inner_violations(tmp_path) == [f"{file}:{problem}"]


def test_a_planted_circle_is_found(tmp_path: Path):
    _plant(tmp_path, "speed/plans/run.py", "from .images import Image")
    _plant(tmp_path, "speed/plans/images.py", "def f():\n    from .run import ModelCall")
    _plant(tmp_path, "speed/plans/making.py", "from .images import Image")
    assert circles(tmp_path / "tome_core" / "speed") == ["plans/images.py", "plans/run.py"]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("merging/plan.py", "from .kernels import gather_rows\nfrom torch import Tensor"),
        ("speed/block.py", "from ..merging import MergePlan\nfrom ..errors import UnsupportedModelError"),
        ("speed/deep/er.py", "from ..config import SpeedConfig\nfrom ...merging.plan import MergePlan"),
        ("presets/loader.py", "from ..speed.config import SpeedConfig"),
        ("cli/bench.py", "from .. import __version__, speed\nfrom ..bench.judge import judge"),
    ],
)
def test_an_allowed_import_is_not_reported(tmp_path: Path, file: str, source: str):
    _plant(tmp_path, file, source)
    assert violations(tmp_path) == []


def _plant(root: Path, file: str, source: str) -> None:
    path = root / "tome_core" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")
